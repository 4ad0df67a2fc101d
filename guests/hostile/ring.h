// The driver's side of a split virtqueue (virtio 1.2, 2.7), every field of which may be written
// freely.
#pragma once

#include <cstdint>

#include "devices/virtio/split_ring.h"
#include "guests/hostile/arena.h"

namespace pacsvisor::hostile {

inline constexpr uint16_t kReadable = 0;
inline constexpr uint16_t kNext = kVirtqDescriptorNext;
inline constexpr uint16_t kWritable = kVirtqDescriptorWrite;
inline constexpr uint16_t kIndirect = kVirtqDescriptorIndirect;

struct RingLayout {
  uint16_t size = 0;
  uint64_t table = 0;
  uint64_t available = 0;
  uint64_t used = 0;
};

class Ring {
 public:
  Ring() = default;
  Ring(Arena& arena, uint16_t size);
  explicit Ring(const RingLayout& layout) : layout_(layout) {}

  const RingLayout& layout() const { return layout_; }

  // A descriptor of the table at `table`.
  static void DescribeAt(uint64_t table, uint64_t index, const VirtqDescriptor& descriptor);
  void Describe(uint16_t index, const VirtqDescriptor& descriptor) const {
    DescribeAt(layout_.table, index, descriptor);
  }
  // Makes the chain of `head` available.
  void Offer(uint16_t head);
  void SetAvailableIndex(uint16_t index);
  uint16_t available_index() const { return available_index_; }

  uint16_t UsedIndex() const;
  VirtqUsedElement Used(uint16_t index) const;
  // False: not that many were used within so many cycles.
  bool WaitUsed(uint16_t index, uint64_t cycles) const;

 private:
  RingLayout layout_;
  uint16_t available_index_ = 0;
};

}  // namespace pacsvisor::hostile
