#include "guests/freestanding/memory_map.h"

#include "guests/freestanding/cpu.h"
#include "guests/freestanding/traps.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;
constexpr uint64_t kMapPageBytes = 4096;
constexpr uint64_t kLargePageBytes = uint64_t{2} << 20;
constexpr uint64_t kEntriesPerTable = 512;
// The image's page-directory-pointer table covers this much.
constexpr uint64_t kMappableBytes = kEntriesPerTable * kGib;
constexpr uint64_t kDeviceSpaceEnd = 4 * kGib;

// SDM volume 3, "4-Level Paging".
constexpr uint64_t kPresentWritableUser = 0x07;
constexpr uint64_t kUncached = 0x18;
constexpr uint64_t kLarge = 0x80;

extern "C" uint64_t page_directory_pointers[kEntriesPerTable];
extern "C" char image_end[];

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

bool IsRam(const MemoryRange& range) { return range.type == MemoryType::kRam; }

bool HoldsRam(const StartInfo& info, uint64_t begin, uint64_t end) {
  for (uint64_t i = 0; i < info.range_count; ++i) {
    const MemoryRange& range = info.ranges[i];
    if (IsRam(range) && range.address < end && begin < range.address + range.size_bytes) {
      return true;
    }
  }
  return false;
}

bool IsAllRam(const StartInfo& info, uint64_t begin, uint64_t end) {
  for (uint64_t i = 0; i < info.range_count; ++i) {
    const MemoryRange& range = info.ranges[i];
    if (IsRam(range) && range.address <= begin && end <= range.address + range.size_bytes) {
      return true;
    }
  }
  return false;
}

uint64_t EndOfMemory(const StartInfo& info) {
  uint64_t end = kDeviceSpaceEnd;
  for (uint64_t i = 0; i < info.range_count; ++i) {
    const MemoryRange& range = info.ranges[i];
    uint64_t range_end;
    if (__builtin_add_overflow(range.address, range.size_bytes, &range_end)) {
      Panic("a memory range ends beyond 2^64");
    }
    if (IsRam(range) && range_end > end) end = range_end;
  }
  return end;
}

}  // namespace

uint64_t MapAllMemory(const StartInfo& info, uint64_t device_gibs) {
  const uint64_t gibs = AlignUp(EndOfMemory(info), kGib) / kGib + device_gibs;
  if (gibs * kGib > kMappableBytes) Panic("more than 512 GiB to map");
  const auto begin = AlignUp(reinterpret_cast<uint64_t>(image_end), kMapPageBytes);
  // The image maps the first GiB itself.
  const uint64_t end = begin + (gibs - 1) * kMapPageBytes;
  if (!IsAllRam(info, kImageAddress, end) || end > kGib) {
    Panic("no room for the page tables behind the image");
  }
  uint64_t table = begin;
  for (uint64_t gib = 1; gib < gibs; ++gib, table += kMapPageBytes) {
    auto* entries = AtAddress<uint64_t>(table);
    for (uint64_t i = 0; i < kEntriesPerTable; ++i) {
      const uint64_t address = gib * kGib + i * kLargePageBytes;
      const bool ram = HoldsRam(info, address, address + kLargePageBytes);
      entries[i] = address | kLarge | kPresentWritableUser | (ram ? 0 : kUncached);
    }
    // An entry that was not present needs no invalidation (SDM volume 3, "Optional Invalidation").
    const_cast<volatile uint64_t&>(page_directory_pointers[gib]) = table | kPresentWritableUser;
  }
  return end;
}

}  // namespace pacsvisor
