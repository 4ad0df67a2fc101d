#include "vmm/store/rollback_hold.h"

namespace pacsvisor {

Result<Hold> HoldBeforeRollback(Store& store, const SnapshotId& kept) {
  constexpr uint64_t kNsPerDay = 86'400'000'000'000;
  return store.AddHold(kept, TRY(store.Now()) + kRollbackHoldDays * kNsPerDay,
                       "it was taken before a roll-back");
}

}  // namespace pacsvisor
