// SnapshotReader on a store's files. Threads: any, several at a time.
#pragma once

#include <memory>

#include "vmm/store/snapshot_reader.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

Result<std::unique_ptr<SnapshotReader>> OpenStoreReader(std::shared_ptr<StoreCore> core,
                                                        const SnapshotId& id);

// The state that `root` names, checked.
Result<std::vector<uint8_t>> ReadStateObject(StoreFiles& files, const StateRef& state);
// The same of a file that may have another name yet.
Result<std::vector<uint8_t>> ReadStateFile(StoreFiles& files, const std::string& path,
                                           const StateRef& state);

}  // namespace pacsvisor
