#include "firmware/boot/e820.h"

#include <gtest/gtest.h>

namespace pacsvisor {
namespace {

class E820Test : public testing::TestWithParam<uint64_t> {
 protected:
  const MemoryLayout layout_ = MemoryLayout::Create(GetParam(), 40).value();
  PlatformDescription platform_ = {.apic_ids = {0}, .memory = layout_};
  const std::vector<E820Entry> map_ = BuildE820(layout_, AcpiPlacementOf(platform_));

  // The type of an address, kReserved's absence told apart.
  std::optional<E820Type> TypeOf(GuestAddress address) const {
    for (const E820Entry& entry : map_) {
      if (address >= entry.start && address.raw() - entry.start.raw() < entry.size_bytes) {
        return entry.type;
      }
    }
    return std::nullopt;
  }
};

TEST_P(E820Test, AscendsWithoutOverlap) {
  uint64_t end = 0;
  for (const E820Entry& entry : map_) {
    EXPECT_GE(entry.start.raw(), end);
    EXPECT_GT(entry.size_bytes, 0u);
    end = entry.start.raw() + entry.size_bytes;
  }
}

TEST_P(E820Test, AllMemoryIsUsableButTheLegacyHole) {
  uint64_t usable = 0;
  for (const E820Entry& entry : map_) {
    usable += entry.type == E820Type::kRam ? entry.size_bytes : 0;
  }
  EXPECT_EQ(usable, GetParam() - 0x6'0000);
  for (const MemoryRegion& region : layout_.regions) {
    EXPECT_EQ(TypeOf(GuestAddress(region.start.raw() + region.size_bytes - 1)), E820Type::kRam);
    EXPECT_NE(TypeOf(GuestAddress(region.start.raw() + region.size_bytes)), E820Type::kRam);
  }
}

TEST_P(E820Test, WhatIsNotTheGuestsIsReserved) {
  EXPECT_EQ(TypeOf(GuestAddress(0xe'0000)), E820Type::kAcpi);
  EXPECT_EQ(TypeOf(platform_.vmgenid), E820Type::kReserved);
  EXPECT_EQ(TypeOf(kEcamStart), E820Type::kReserved);
  EXPECT_EQ(TypeOf(GuestAddress(kEcamStart.raw() + kEcamSizeBytes - 1)), E820Type::kReserved);
  EXPECT_EQ(TypeOf(kKvmIdentityMapPage), E820Type::kReserved);
  EXPECT_EQ(TypeOf(GuestAddress(0xfeff'ffff)), E820Type::kReserved);
}

TEST_P(E820Test, DeviceWindowsAreNotMentioned) {
  EXPECT_EQ(TypeOf(kMmio32Start), std::nullopt);
  EXPECT_EQ(TypeOf(layout_.mmio64.start), std::nullopt);
  EXPECT_EQ(TypeOf(GuestAddress(0xa'0000)), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(Sizes, E820Test,
                         testing::Values(2 * kMiB, 512 * kMiB, 3 * kGiB - 4096, 3 * kGiB,
                                         3 * kGiB + 4096, 5 * kGiB, 64 * kGiB));

}  // namespace
}  // namespace pacsvisor
