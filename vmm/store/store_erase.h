// Store::Erase and Store::ChangeKey: what an encrypted store's keys are for (FORMAT.md, 12).
// Threads: any.
#pragma once

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<EraseReport> EraseSnapshot(StoreCore& core, const SnapshotId& id,
                                  const EraseRequest& request);
Status ChangeStoreKey(StoreCore& core, const StoreKey& key);

}  // namespace pacsvisor
