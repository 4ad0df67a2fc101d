// Making and releasing holds (FORMAT.md, 10). Threads: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm/store/hold.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

// The latest time that the store knows of: of its snapshots' instants and of what made its holds. A
// clock that is behind it was set back.
uint64_t GreatestTime(const std::vector<SnapshotRoot>& roots, const std::vector<Hold>& holds);
Result<uint64_t> GreatestTimeOf(StoreCore& core);

// Both take the store's lock. `until_ns` 0: for ever.
Result<Hold> AddStoreHold(StoreCore& core, const SnapshotId& id, uint64_t until_ns,
                          std::string_view reason);
Result<Hold> AddStoreFetchHold(StoreCore& core, const SnapshotId& id, std::string_view reason);
Result<size_t> ReleaseStoreHolds(StoreCore& core, const SnapshotId& id, std::string_view word);

}  // namespace pacsvisor
