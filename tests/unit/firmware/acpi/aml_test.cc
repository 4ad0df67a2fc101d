// The encodings that the platform's own tables do not reach.
#include "firmware/acpi/aml.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace pacsvisor::aml {
namespace {

// ACPI 6.4, 20.2.4, read as the specification says it: {length, bytes it takes}.
std::pair<size_t, size_t> DecodeLength(std::span<const uint8_t> bytes) {
  const size_t following = bytes[0] >> 6;
  if (following == 0) {
    return {bytes[0] & 0x3fu, 1};
  }
  size_t length = bytes[0] & 0xfu;
  for (size_t i = 0; i < following; ++i) {
    length |= static_cast<size_t>(bytes[1 + i]) << (4 + 8 * i);
  }
  return {length, 1 + following};
}

TEST(AmlTest, PackageLengthCountsItselfAtEveryWidth) {
  for (const size_t size :
       {0u,    1u,    55u,   56u,      57u,      58u,      59u,      60u,     61u,
        62u,   63u,   64u,   4080u,    4085u,    4086u,    4087u,    4088u,   4089u,
        4090u, 4095u, 4096u, 1048560u, 1048565u, 1048566u, 1048570u, 1048576u}) {
    const Bytes buffer = Buffer(Bytes(size));
    const auto [length, width] = DecodeLength(std::span(buffer).subspan(1));
    EXPECT_EQ(length, buffer.size() - 1) << size;
    // The narrowest width that holds it.
    EXPECT_TRUE(width == 1 || length - 1 >= (width == 2 ? 0x3fu : 1u << (4 + 8 * (width - 2))) - 1)
        << size << " in " << width;
  }
}

TEST(AmlTest, IntegersTakeTheShortestForm) {
  EXPECT_EQ(Integer(0), (Bytes{0x00}));
  EXPECT_EQ(Integer(1), (Bytes{0x01}));
  EXPECT_EQ(Integer(2), (Bytes{0x0a, 2}));
  EXPECT_EQ(Integer(0xff), (Bytes{0x0a, 0xff}));
  EXPECT_EQ(Integer(0x100), (Bytes{0x0b, 0, 1}));
  EXPECT_EQ(Integer(0x1'0000), (Bytes{0x0c, 0, 0, 1, 0}));
  EXPECT_EQ(Integer(0x1'0000'0000), (Bytes{0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(AmlTest, PathsPadTheirSegments) {
  EXPECT_EQ(Path("ABC"), (Bytes{'A', 'B', 'C', '_'}));
  EXPECT_EQ(Path("\\"), (Bytes{'\\', 0}));
  EXPECT_EQ(Path("\\_SB.P"), (Bytes{'\\', 0x2e, '_', 'S', 'B', '_', 'P', '_', '_', '_'}));
  EXPECT_EQ(Path("A.B.C"),
            (Bytes{0x2f, 3, 'A', '_', '_', '_', 'B', '_', '_', '_', 'C', '_', '_', '_'}));
}

TEST(AmlDeathTest, RefusesNamesThatAreNone) {
  EXPECT_DEATH(Path("ABCDE"), "name segment");
  EXPECT_DEATH(Path("abc"), "name segment");
  EXPECT_DEATH(Path("1ABC"), "name segment");
  EXPECT_DEATH(Path("A..B"), "name segment");
  EXPECT_DEATH(String("\n"), "string");
  EXPECT_DEATH(EisaId("PNP"), "EISA");
}

}  // namespace
}  // namespace pacsvisor::aml
