// Lets go of the snapshots that a machine's disks are fetched from, each as soon as its disk is
// whole, and has fetching that has stopped tried again: looks now and then, on a thread of its own,
// since the store's lock and disk are waited for. A release that fails is tried again; what is left
// at the end is the end's, or the next run's.
//
// Threads: the owner's; started by one that may do what it does (vmm/sandbox: snapshot).
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/machine/snapshot_blocks.h"

namespace pacsvisor {

class SourceRelease {
 public:
  struct Disk {
    std::string path;  // for the log
    std::shared_ptr<SnapshotBlocks> source;
    std::function<bool()> needs_source;  // asked until it is false
    std::function<void()> fetch_again;   // called now and then until then
  };
  // Null when there is nothing to let go of.
  static Result<std::unique_ptr<SourceRelease>> Start(std::vector<Disk> disks);
  ~SourceRelease();

 private:
  explicit SourceRelease(std::vector<Disk> disks) : disks_(std::move(disks)) {}
  void Run();
  bool ReleaseOne(const Disk& disk, bool again);

  std::vector<Disk> disks_;  // the thread's: those that are left
  std::thread thread_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace pacsvisor
