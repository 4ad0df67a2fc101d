#include "vmm/machine/page_walk.h"

#include <array>

namespace pacsvisor {
namespace {

constexpr uint64_t kCr0Paging = uint64_t{1} << 31;
constexpr uint64_t kCr4FiveLevels = uint64_t{1} << 12;
constexpr uint64_t kEferLongModeActive = uint64_t{1} << 10;
constexpr uint64_t kEntryPresent = 1;
constexpr uint64_t kEntryLarge = uint64_t{1} << 7;
constexpr uint64_t kEntryAddress = 0x000f'ffff'ffff'f000;
constexpr unsigned kIndexBits = 9;

struct Level {
  std::string_view name;
  unsigned shift;
  bool may_be_large;
};
constexpr std::array<Level, 5> kLevels{{{"PML5E", 48, false},
                                        {"PML4E", 39, false},
                                        {"PDPTE", 30, true},
                                        {"PDE", 21, true},
                                        {"PTE", 12, false}}};

}  // namespace

PageWalk WalkPages(const GuestMemory& memory, const kvm_sregs& registers, uint64_t linear) {
  PageWalk walk;
  if ((registers.cr0 & kCr0Paging) == 0) {
    walk.physical = GuestAddress(linear);
    walk.ending = "paging is off";
    return walk;
  }
  if ((registers.efer & kEferLongModeActive) == 0) {
    walk.ending = "32-bit paging is not walked";
    return walk;
  }
  uint64_t table = registers.cr3 & kEntryAddress;
  const size_t first = (registers.cr4 & kCr4FiveLevels) != 0 ? 0 : 1;
  for (size_t i = first; i < kLevels.size(); ++i) {
    const Level& level = kLevels[i];
    const uint64_t index = linear >> level.shift & ((1u << kIndexBits) - 1);
    const GuestAddress address(table + index * sizeof(uint64_t));
    const std::optional<uint64_t> entry = memory.ReadObject<uint64_t>(address);
    if (!entry.has_value()) {
      walk.ending = fmt::format("the table at {} is outside memory", address);
      return walk;
    }
    walk.steps.push_back({level.name, address, *entry});
    if ((*entry & kEntryPresent) == 0) {
      walk.ending = "not present";
      return walk;
    }
    const bool last = level.shift == 12 || (level.may_be_large && (*entry & kEntryLarge) != 0);
    if (last) {
      const uint64_t offset_mask = (uint64_t{1} << level.shift) - 1;
      walk.physical =
          GuestAddress((*entry & kEntryAddress & ~offset_mask) | (linear & offset_mask));
      walk.ending = "mapped";
      return walk;
    }
    table = *entry & kEntryAddress;
  }
  return walk;
}

}  // namespace pacsvisor
