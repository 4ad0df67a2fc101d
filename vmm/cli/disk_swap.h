// All disks of a machine exchanged for others as one: whoever is killed at any instant leaves
// either all as they were, or a record by which the exchange is finished before anybody opens a
// disk again.
//
// The layers of a disk (DISK.layers, where blocks are that are not in the image) go where it goes.
//
//   DISK.restored   what is to take DISK's place, whole and durable before the exchange begins
//   DISK.replaced   what was in its place, until nobody wants it back
//   DISK.swap       the record, beside the first disk: the exchange has been decided on
//
// Threads: one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"
#include "vmm/machine/config.h"

namespace pacsvisor {

std::string RestoredName(const std::string& disk);
std::string ReplacedName(const std::string& disk);

enum class SwapDirection {
  kRestore,  // DISK.restored comes, DISK goes to DISK.replaced
  kPutBack,  // DISK.replaced comes, DISK goes to DISK.restored
};

// Of the disks of `config`, which nobody uses. Where a disk is not there, nothing goes.
Status SwapDisks(const MachineConfig& config, SwapDirection direction);
// Before the disks of `config` are opened: finishes what a killed process has begun. kCorrupt: a
// record that is not of these disks.
Status FinishDiskSwap(const MachineConfig& config);
// What was replaced is wanted by nobody any more.
void DropReplacedDisks(const MachineConfig& config);

// The files that are to take the places of disks: empty, mode 0600, and this process's alone as
// long as this object is there. Those that are still beside their disks at its end are removed.
class RestoredFiles {
 public:
  // kBusy: another process is at it.
  static Result<RestoredFiles> Create(const std::vector<std::string>& disks);
  RestoredFiles(RestoredFiles&&) = default;
  RestoredFiles& operator=(RestoredFiles&&) = delete;
  ~RestoredFiles();

  int fd(size_t disk) const { return files_[disk].fd.get(); }
  Status Sync();

 private:
  struct File {
    std::string path;
    UniqueFd fd;
  };
  RestoredFiles() = default;

  std::vector<File> files_;
};

namespace internal {
// For tests: called before each step that changes a name, with what it is about to do.
extern std::function<void(const std::string&)> before_swap_step;
}  // namespace internal

}  // namespace pacsvisor
