// What two snapshots of a store differ in, by their tables: no chunk is read. Threads: any.
#pragma once

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<SnapshotDiff> DiffSnapshots(StoreCore& core, const SnapshotId& first,
                                   const SnapshotId& second,
                                   const std::function<void(const VerifyProgress&)>& progress);

}  // namespace pacsvisor
