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

// Goes on with one of all that was interrupted, and leaves in the store what was proven when
// (FORMAT.md, 11). Of requests without a sample.
Result<VerifyReport> VerifyStoreAndRecord(
    StoreCore& core, const VerifyRequest& request,
    const std::function<void(const VerifyProgress&)>& progress);

}  // namespace pacsvisor
