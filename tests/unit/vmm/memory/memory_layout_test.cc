#include "vmm/memory/memory_layout.h"

#include <gtest/gtest.h>

namespace pacsvisor {
namespace {

std::vector<MemoryRegion> RegionsOf(uint64_t memory_bytes) {
  return MemoryLayout::Create(memory_bytes, 40).value().regions;
}

TEST(MemoryLayoutTest, UpToThreeGibibytesLieInOneRegion) {
  for (const uint64_t size : {2 * kMiB, 128 * kMiB, 3 * kGiB - 4096, 3 * kGiB}) {
    EXPECT_EQ(RegionsOf(size), (std::vector<MemoryRegion>{{GuestAddress(0), size}})) << size;
  }
}

TEST(MemoryLayoutTest, TheRestLiesAboveFourGibibytes) {
  for (const uint64_t rest : {uint64_t{4096}, 512 * kMiB, 2 * kGiB, 61 * kGiB}) {
    EXPECT_EQ(
        RegionsOf(3 * kGiB + rest),
        (std::vector<MemoryRegion>{{GuestAddress(0), 3 * kGiB}, {GuestAddress(4 * kGiB), rest}}))
        << rest;
  }
}

TEST(MemoryLayoutTest, TheDeviceWindowLiesBehindMemory) {
  EXPECT_EQ(MemoryLayout::Create(2 * kMiB, 40)->mmio64.start, GuestAddress(4 * kGiB));
  EXPECT_EQ(MemoryLayout::Create(5 * kGiB, 40)->mmio64.start, GuestAddress(6 * kGiB));
  EXPECT_EQ(MemoryLayout::Create(5 * kGiB + 4096, 40)->mmio64.start, GuestAddress(7 * kGiB));
}

TEST(MemoryLayoutTest, SizesThatAreNoneAreRefused) {
  for (const uint64_t size : {uint64_t{0}, uint64_t{4096}, 2 * kMiB - 4096, 2 * kMiB + 1}) {
    EXPECT_FALSE(MemoryLayout::Create(size, 40).ok()) << size;
  }
}

TEST(MemoryLayoutTest, WhatTheProcessorCannotAddressIsRefused) {
  EXPECT_TRUE(MemoryLayout::Create(100 * kGiB, 40).ok());
  EXPECT_FALSE(MemoryLayout::Create(1000 * kGiB, 40).ok());
  EXPECT_FALSE(MemoryLayout::Create(2 * kMiB, 36).ok());  // no room for the window
  EXPECT_FALSE(MemoryLayout::Create(~uint64_t{0} - 4095, 57).ok());
}

TEST(MemoryLayoutTest, EverythingEndsBelowTheProcessorsLimit) {
  for (unsigned bits = 37; bits <= 57; ++bits) {
    for (uint64_t size = 2 * kMiB; size < uint64_t{1} << 50; size *= 2) {
      const Result<MemoryLayout> layout = MemoryLayout::Create(size, bits);
      if (layout.ok()) {
        EXPECT_LE(layout->mmio64.start.raw() + layout->mmio64.size_bytes, uint64_t{1} << bits);
        EXPECT_GE(layout->mmio64.start.raw(),
                  layout->regions.back().start.raw() + layout->regions.back().size_bytes);
      }
    }
  }
}

TEST(GuestAddressTest, SumsNoticeTheEndOfTheSpace) {
  EXPECT_EQ(GuestAddress(10).Plus(5), GuestAddress(15));
  EXPECT_EQ(GuestAddress(~uint64_t{0}).Plus(1), std::nullopt);
}

}  // namespace
}  // namespace pacsvisor
