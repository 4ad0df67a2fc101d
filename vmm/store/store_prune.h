// Prune (FORMAT.md, 11). Threads: any, and others may read and write the store meanwhile.
#pragma once

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<PruneReport> PruneStore(StoreCore& core, const PruneRequest& request,
                               const std::function<void(const VerifyProgress&)>& progress);

}  // namespace pacsvisor
