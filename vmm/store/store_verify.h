// Store::Verify: reads everything that snapshots stand on, and says what is not as it was written.
// Threads: one at a time.
#pragma once

#include <functional>
#include <vector>

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<VerifyReport> VerifyStore(StoreCore& core, const std::vector<SnapshotId>& ids,
                                 const std::function<void(const VerifyProgress&)>& progress);

}  // namespace pacsvisor
