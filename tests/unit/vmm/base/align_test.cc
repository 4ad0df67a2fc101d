#include "vmm/base/align.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>

#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kMaximum = std::numeric_limits<uint64_t>::max();

TEST(AlignTest, AgreesWithDivision) {
  for (uint64_t alignment = 1; alignment <= 64; alignment *= 2) {
    for (uint64_t value = 0; value < 300; ++value) {
      EXPECT_EQ(AlignDown(value, alignment), value / alignment * alignment);
      EXPECT_EQ(AlignUp(value, alignment), (value + alignment - 1) / alignment * alignment);
      EXPECT_EQ(IsAligned(value, alignment), value % alignment == 0);
      EXPECT_EQ(DivideRoundUp(value, alignment), (value + alignment - 1) / alignment);
    }
  }
}

TEST(AlignTest, PowersOfTwo) {
  for (int bit = 0; bit < 64; ++bit) {
    EXPECT_TRUE(IsPowerOfTwo(uint64_t{1} << bit));
  }
  for (const uint64_t other : {uint64_t{0}, uint64_t{3}, uint64_t{6}, kMaximum}) {
    EXPECT_FALSE(IsPowerOfTwo(other));
  }
}

TEST(AlignTest, DivisionRoundsUpAtTheEndOfTheType) {
  EXPECT_EQ(DivideRoundUp(kMaximum, uint64_t{2}), kMaximum / 2 + 1);
  EXPECT_EQ(DivideRoundUp(kMaximum, kMaximum), 1u);
}

TEST(AlignTest, SumsAndProductsNoticeOverflow) {
  EXPECT_EQ(CheckedAdd(kMaximum - 1, uint64_t{1}), kMaximum);
  EXPECT_EQ(CheckedAdd(kMaximum, uint64_t{1}), std::nullopt);
  EXPECT_EQ(CheckedMultiply(kMaximum, uint64_t{1}), kMaximum);
  EXPECT_EQ(CheckedMultiply(uint64_t{1} << 32, uint64_t{1} << 32), std::nullopt);
  EXPECT_EQ(CheckedMultiply(uint32_t{1} << 16, uint32_t{1} << 16), std::nullopt);
}

TEST(ByteOrderTest, NumbersLieLowestByteFirst) {
  std::array<uint8_t, 8> bytes{};
  StoreLe(bytes.data(), uint32_t{0x0403'0201});
  EXPECT_EQ(bytes, (std::array<uint8_t, 8>{1, 2, 3, 4, 0, 0, 0, 0}));
  EXPECT_EQ(LoadLe<uint16_t>(&bytes[1]), 0x0302);
}

TEST(ByteOrderTest, AccessesOfEveryWidthRoundTrip) {
  constexpr uint64_t kValue = 0x0807'0605'0403'0201;
  for (size_t width = 1; width <= 8; ++width) {
    std::array<uint8_t, 8> bytes;
    bytes.fill(0xff);
    StoreLeBytes(std::span(bytes).first(width), kValue);
    const uint64_t mask = width == 8 ? kMaximum : (uint64_t{1} << (8 * width)) - 1;
    EXPECT_EQ(LoadLeBytes(std::span(bytes).first(width)), kValue & mask);
    EXPECT_TRUE(width == 8 || bytes[width] == 0xff);
  }
}

TEST(ByteOrderTest, WiderAccessesThanANumberAreFilledWithZeroes) {
  std::array<uint8_t, 10> bytes;
  bytes.fill(0xff);
  StoreLeBytes(bytes, 1);
  EXPECT_EQ(bytes, (std::array<uint8_t, 10>{1}));
}

}  // namespace
}  // namespace pacsvisor
