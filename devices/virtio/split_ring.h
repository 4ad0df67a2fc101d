// The split virtqueue as it lies in guest memory (virtio 1.2, section 2.7). Little endian.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pacsvisor {

// 2.7.5: one buffer of a chain.
struct VirtqDescriptor {
  uint64_t address = 0;
  uint32_t length_bytes = 0;
  uint16_t flags = 0;
  uint16_t next = 0;
};
static_assert(sizeof(VirtqDescriptor) == 16);
static_assert(offsetof(VirtqDescriptor, length_bytes) == 8);
static_assert(offsetof(VirtqDescriptor, flags) == 12);
static_assert(offsetof(VirtqDescriptor, next) == 14);

inline constexpr uint16_t kVirtqDescriptorNext = 1;      // VIRTQ_DESC_F_NEXT
inline constexpr uint16_t kVirtqDescriptorWrite = 2;     // VIRTQ_DESC_F_WRITE
inline constexpr uint16_t kVirtqDescriptorIndirect = 4;  // VIRTQ_DESC_F_INDIRECT

// 2.7.8: one finished chain.
struct VirtqUsedElement {
  uint32_t head = 0;
  uint32_t written_bytes = 0;
};
static_assert(sizeof(VirtqUsedElement) == 8);
static_assert(offsetof(VirtqUsedElement, written_bytes) == 4);

inline constexpr uint16_t kVirtqAvailableNoInterrupt = 1;  // VIRTQ_AVAIL_F_NO_INTERRUPT
inline constexpr uint16_t kVirtqUsedNoNotify = 1;          // VIRTQ_USED_F_NO_NOTIFY

// Both rings begin alike: flags, index, entries; one 16-bit event field follows the entries (2.7.6,
// 2.7.8). Offsets in bytes from the ring's start.
inline constexpr uint64_t kVirtqRingFlags = 0;
inline constexpr uint64_t kVirtqRingIndex = 2;
inline constexpr uint64_t kVirtqRingEntries = 4;
inline constexpr uint64_t kVirtqAvailableEntryBytes = 2;

inline constexpr uint16_t kVirtqMaxSize = 32768;
inline constexpr uint64_t kVirtqDescriptorAlignment = 16;
inline constexpr uint64_t kVirtqAvailableAlignment = 2;
inline constexpr uint64_t kVirtqUsedAlignment = 4;

constexpr uint64_t VirtqUsedEventOffset(uint16_t size) {
  return kVirtqRingEntries + kVirtqAvailableEntryBytes * size;
}
constexpr uint64_t VirtqAvailableEventOffset(uint16_t size) {
  return kVirtqRingEntries + sizeof(VirtqUsedElement) * size;
}
constexpr uint64_t VirtqDescriptorTableBytes(uint16_t size) {
  return sizeof(VirtqDescriptor) * size;
}
constexpr uint64_t VirtqAvailableRingBytes(uint16_t size) { return VirtqUsedEventOffset(size) + 2; }
constexpr uint64_t VirtqUsedRingBytes(uint16_t size) { return VirtqAvailableEventOffset(size) + 2; }

// 2.7.10.1, 2.7.7.2: whether moving an index from `before` to `now` passed `event`, modulo 2^16.
constexpr bool VirtqNeedEvent(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

}  // namespace pacsvisor
