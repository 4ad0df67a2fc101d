// One vCPU's dirty ring from user space's side (Linux, Documentation/virt/kvm/api.rst,
// KVM_CAP_DIRTY_LOG_RING). KVM fills entries in order (dirty); user space moves them (reset is
// asked for); KVM takes those back in order (empty).
// Threads: one at a time; KVM at any time.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

namespace pacsvisor {

struct DirtyRingPage {
  uint32_t slot;    // address space << 16 | slot
  uint64_t offset;  // of the page in its slot

  friend bool operator==(const DirtyRingPage&, const DirtyRingPage&) = default;
};

class DirtyRing {
 public:
  // `entries`, a power of two of them, are shared with KVM and empty.
  explicit DirtyRing(std::span<kvm_dirty_gfn> entries) : entries_(entries) {}

  // Appends what KVM has filled in, and asks for its reset. False where every entry was in use: KVM
  // may then have written over some, and pages are missing from the list.
  [[nodiscard]] bool Collect(std::vector<DirtyRingPage>& pages);
  // How many of the entries that were moved KVM has not taken back.
  uint32_t CountOutstanding();

 private:
  kvm_dirty_gfn& At(uint64_t position) { return entries_[position & (entries_.size() - 1)]; }
  uint32_t FlagsAt(uint64_t position);
  void AskForReset(uint64_t position);
  bool IsFilled(uint64_t position);
  void FindPlaceAfterOverrun();

  const std::span<kvm_dirty_gfn> entries_;
  uint64_t next_ = 0;      // where KVM fills next; counts on, the ring is walked round and round
  uint64_t returned_ = 0;  // before this KVM has taken all back
  bool overran_ = false;   // KVM may be ahead of next_
};

}  // namespace pacsvisor
