// A snapshot out of a stream that anybody may have made (FORMAT.md, 13). Threads: any.
#pragma once

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<ImportReport> ImportSnapshot(StoreCore& core, const ByteSource& source,
                                    const std::function<void(const VerifyProgress&)>& progress);

}  // namespace pacsvisor
