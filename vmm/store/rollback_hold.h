// What a machine held before it was rolled back stays for a while. Threads: any.
#pragma once

#include "vmm/store/store.h"

namespace pacsvisor {

inline constexpr uint64_t kRollbackHoldDays = 30;

// To be called with the snapshot "before roll-back to ID" when it is committed, before the
// roll-back goes on: no prune takes it for kRollbackHoldDays. Takes the store's lock for an
// instant.
Result<Hold> HoldBeforeRollback(Store& store, const SnapshotId& kept);

}  // namespace pacsvisor
