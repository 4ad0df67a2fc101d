// One snapshot as one stream of bytes (FORMAT.md, 13). Threads: any.
#pragma once

#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<ExportReport> ExportSnapshot(StoreCore& core, const SnapshotId& id, const ByteSink& sink,
                                    const std::function<void(const VerifyProgress&)>& progress);

}  // namespace pacsvisor
