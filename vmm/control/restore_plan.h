// What a snapshot becomes: the configuration of the machine that is made of it, and which of its
// spaces goes to which file. Decides, touches nothing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/machine/config.h"
#include "vmm/store/snapshot_info.h"

namespace pacsvisor {

struct RestoreOptions {
  std::string new_name;                  // empty: in place, the machine of the snapshot itself
  std::string directory;                 // of the new machine's disks; needed with new_name
  bool live = false;                     // the new machine is connected as the old one was
  std::vector<PortForward> forwards;     // to a new machine that is not
  bool cold = false;                     // disks only; it boots
  std::optional<uint64_t> memory_bytes;  // cold only
  std::optional<uint32_t> cpus;          // cold only
  std::string store_path;                // absolute: where the snapshot lies
  std::string store_key;                 // absolute: its key file; empty: not encrypted
};

struct RestorePlan {
  struct Disk {
    uint32_t space = 0;  // of the snapshot
    std::string path;
    uint64_t size_bytes = 0;
  };
  MachineConfig config;
  std::vector<Disk> disks;
};

// kInvalidArgument and kCorrupt say what of the snapshot or of the wishes does not fit.
Result<RestorePlan> PlanRestore(const SnapshotInfo& snapshot, const RestoreOptions& options);

}  // namespace pacsvisor
