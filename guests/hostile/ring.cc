#include "guests/hostile/ring.h"

#include <atomic>

#include "guests/freestanding/cpu.h"

namespace pacsvisor::hostile {

Ring::Ring(Arena& arena, uint16_t size)
    : layout_{.size = size,
              .table = arena.Take(VirtqDescriptorTableBytes(size)),
              .available = arena.Take(VirtqAvailableRingBytes(size)),
              .used = arena.Take(VirtqUsedRingBytes(size))} {}

void Ring::DescribeAt(uint64_t table, uint64_t index, const VirtqDescriptor& descriptor) {
  *AtAddress<VirtqDescriptor>(table + sizeof(descriptor) * index) = descriptor;
}

void Ring::Offer(uint16_t head) {
  const uint64_t slot = available_index_ % layout_.size;
  *AtAddress<volatile uint16_t>(layout_.available + kVirtqRingEntries +
                                kVirtqAvailableEntryBytes * slot) = head;
  SetAvailableIndex(static_cast<uint16_t>(available_index_ + 1));
}

void Ring::SetAvailableIndex(uint16_t index) {
  // Entries and descriptors are visible before the index (2.7.13.3).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  available_index_ = index;
  *AtAddress<volatile uint16_t>(layout_.available + kVirtqRingIndex) = index;
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

uint16_t Ring::UsedIndex() const {
  const uint16_t index = *AtAddress<volatile uint16_t>(layout_.used + kVirtqRingIndex);
  std::atomic_thread_fence(std::memory_order_acquire);
  return index;
}

VirtqUsedElement Ring::Used(uint16_t index) const {
  const uint64_t slot = index % layout_.size;
  return *AtAddress<const VirtqUsedElement>(layout_.used + kVirtqRingEntries +
                                            sizeof(VirtqUsedElement) * slot);
}

bool Ring::WaitUsed(uint16_t index, uint64_t cycles) const {
  const uint64_t begin = ReadTsc();
  while (static_cast<uint16_t>(UsedIndex() - index) >= 0x8000) {
    if (ReadTsc() - begin > cycles) return false;
    SpinPause();
  }
  return true;
}

}  // namespace pacsvisor::hostile
