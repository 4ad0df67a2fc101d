// A random part of a store, read and checked: for every day (FORMAT.md, 4 and 5).
// Threads: one at a time.
#pragma once

#include <functional>

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

// All roots, and of chunks, pages of tables and states as large a share as the request says, chosen
// by its seed.
Result<VerifyReport> VerifySample(StoreCore& core, const VerifyRequest& request,
                                  const std::function<void(const VerifyProgress&)>& progress);

}  // namespace pacsvisor
