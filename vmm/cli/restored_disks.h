// The disks of a snapshot as files, and what the files in their places held before.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cli/disk_swap.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/control/restore_plan.h"
#include "vmm/disk/image_lock.h"
#include "vmm/store/store.h"

namespace pacsvisor {

// Of a new machine: each under its name only when all are whole.
Status WriteNewDisks(SnapshotReader& snapshot, const std::vector<RestorePlan::Disk>& disks,
                     ProgressBar& progress);

// Beside the disks that they are to replace (disk_swap.h): whole and durable.
Result<RestoredFiles> WriteRestoredDisks(SnapshotReader& snapshot,
                                         const std::vector<RestorePlan::Disk>& disks,
                                         ProgressBar& progress);

// Disks that nobody uses, and that are whole without layers, are exchanged as one.
Status ExchangeDisks(const MachineConfig& config, SwapDirection direction);

// Layers that a killed machine left go into the images of `config`, of which nothing is running.
Status MergeLeftoverLayers(const MachineConfig& config, const ImageOwner& owner);

// The disks that `config` has now, as a snapshot of its machine with `message`; `parent`: whose
// blocks cost no room.
Result<SnapshotInfo> KeepDisks(Store& store, const SnapshotId& parent, const MachineConfig& config,
                               const std::string& message, ProgressBar& progress);

}  // namespace pacsvisor
