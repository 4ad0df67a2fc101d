// The disks of a snapshot as files, and what the files in their places held before.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cli/disk_swap.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/restore_plan.h"
#include "vmm/disk/image_lock.h"
#include "vmm/machine/snapshot_blocks.h"
#include "vmm/store/store.h"

namespace pacsvisor {

// Where disks are restored from.
struct DiskOrigin {
  Store& store;
  StorePlace place;  // of the store
  SnapshotReader& snapshot;
  std::string machine;  // whose disks they become
  // All of their bytes are written before the machine starts; otherwise they are fetched as it
  // touches them, and the rest in the background (vmm/machine/snapshot_blocks.h), of those that it
  // may write.
  bool eager = false;
};

// Of a new machine: each under its name only when all can be used. What was begun of those that are
// fetched, for whoever gives them up again.
Result<std::vector<BegunDisk>> WriteNewDisks(const DiskOrigin& origin, const RestorePlan& plan,
                                             ProgressBar& progress);

// Beside the disks that they are to replace (disk_swap.h): durable.
Result<RestoredFiles> WriteRestoredDisks(const DiskOrigin& origin, const RestorePlan& plan,
                                         ProgressBar& progress);

// Disks that nobody uses are exchanged as one.
Status ExchangeDisks(const MachineConfig& config, SwapDirection direction);
// What was replaced comes to its places again, also where an exchange was cut short. Nothing where
// not every disk replaced one.
Status PutDisksBack(const MachineConfig& config);

// Layers that a killed machine left, and what is not fetched yet from a snapshot, go into the
// images of `config`, of which nothing is running.
Status MakeDisksWhole(const MachineConfig& config, const ImageOwner& owner);

// The disks that `config` has now, as a snapshot of its machine with `message`; `parent`: whose
// blocks cost no room.
Result<SnapshotInfo> KeepDisks(Store& store, const SnapshotId& parent, const MachineConfig& config,
                               const std::string& message, ProgressBar& progress);

}  // namespace pacsvisor
