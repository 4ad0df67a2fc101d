// SnapshotWriter on a store's files (FORMAT.md, 8). Threads: one at a time.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "vmm/store/snapshot_writer.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

// Takes the lock, and takes away what dead writers left.
Result<std::unique_ptr<SnapshotWriter>> BeginStoreWriter(std::shared_ptr<StoreCore> core,
                                                         const std::optional<SnapshotId>& parent,
                                                         std::vector<StoredSpace> spaces);

// How many of a parent's tables (newest first) are merged into a new one of about `own` entries, so
// that with it no more than `most` are left and none is rewritten often.
size_t TablesToMerge(uint64_t own, const std::vector<TableRef>& tables, size_t most);

}  // namespace pacsvisor
