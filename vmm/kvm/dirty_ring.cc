#include "vmm/kvm/dirty_ring.h"

#include <atomic>

namespace pacsvisor {

// Acquire: an entry's page is read after its flag. Release: it was read before KVM takes it back.
uint32_t DirtyRing::FlagsAt(uint64_t position) {
  return std::atomic_ref(At(position).flags).load(std::memory_order_acquire);
}

void DirtyRing::AskForReset(uint64_t position) {
  std::atomic_ref(At(position).flags).store(KVM_DIRTY_GFN_F_RESET, std::memory_order_release);
}

bool DirtyRing::IsFilled(uint64_t position) {
  return (FlagsAt(position) & KVM_DIRTY_GFN_F_MASK) == KVM_DIRTY_GFN_F_DIRTY;
}

bool DirtyRing::Collect(std::vector<DirtyRingPage>& pages) {
  const uint32_t outstanding = CountOutstanding();
  if (overran_) {
    FindPlaceAfterOverrun();
  }
  // Bounded: a vCPU may fill the ring as fast as it is emptied.
  const uint64_t begin = next_;
  while (next_ - begin < entries_.size() && IsFilled(next_)) {
    const kvm_dirty_gfn& entry = At(next_);
    pages.push_back({entry.slot, entry.offset});
    AskForReset(next_);
    ++next_;
  }
  const bool full = outstanding + (next_ - begin) >= entries_.size();
  overran_ |= full;
  return !full;
}

uint32_t DirtyRing::CountOutstanding() {
  // In order: when the last is taken back, all are.
  if (returned_ != next_ && (FlagsAt(next_ - 1) & KVM_DIRTY_GFN_F_RESET) == 0) {
    returned_ = next_;
  }
  while (returned_ != next_ && (FlagsAt(returned_) & KVM_DIRTY_GFN_F_RESET) == 0) {
    ++returned_;
  }
  return static_cast<uint32_t>(next_ - returned_);
}

// KVM has counted the entries that it wrote over: it fills further on, and what lies between stays
// empty for ever. KVM takes back in order, so it is handed those as well.
void DirtyRing::FindPlaceAfterOverrun() {
  for (uint64_t position = next_; position - next_ < entries_.size(); ++position) {
    if (!IsFilled(position)) {
      continue;
    }
    // KVM fills in order: once this one is seen, an empty one before it was passed over.
    while (next_ != position && !IsFilled(next_)) {
      AskForReset(next_);
      ++next_;
    }
    overran_ = false;
    return;
  }
}

}  // namespace pacsvisor
