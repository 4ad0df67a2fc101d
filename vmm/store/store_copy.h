// A snapshot from one store into another (FORMAT.md, 8 and 14). Threads: any.
#pragma once

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<CopyReport> CopySnapshot(StoreCore& source, StoreCore& target, const SnapshotId& id,
                                const CopyWatch& watch);

}  // namespace pacsvisor
