#include "devices/net/internet_checksum.h"

#include <gtest/gtest.h>

#include "tests/unit/devices/net/packets.h"

namespace pacsvisor {
namespace {

using net_test::Bytes;
using net_test::OracleSum;
using net_test::Pattern;

uint16_t ChecksumOf(std::span<const uint8_t> bytes) {
  InternetChecksum sum;
  sum.Add(bytes);
  return sum.Finish();
}

TEST(InternetChecksum, IsThatOfTheExampleOfRfc1071) {
  const Bytes bytes = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(ChecksumOf(bytes), 0xffff - 0xddf2);
}

TEST(InternetChecksum, OfNothingIsAllOnes) { EXPECT_EQ(ChecksumOf({}), 0xffff); }

TEST(InternetChecksum, OfAllOnesIsZeroAtEveryLength) {
  for (size_t size = 2; size < 70000; size = size * 3 / 2 + 1 + size % 2) {
    EXPECT_EQ(ChecksumOf(Bytes(size & ~size_t{1}, 0xff)), 0) << size;
  }
}

TEST(InternetChecksum, AgreesWithTheOracleAtEveryLengthAndOffset) {
  const Bytes bytes = Pattern(400, 1);
  for (size_t offset = 0; offset < 9; ++offset) {
    for (size_t size = 0; size + offset <= bytes.size(); ++size) {
      const auto part = std::span(bytes).subspan(offset, size);
      ASSERT_EQ(ChecksumOf(part), 0xffff - OracleSum(part)) << offset << " " << size;
    }
  }
}

TEST(InternetChecksum, AgreesWithTheOracleOnLongData) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const Bytes bytes = Pattern(65536 - seed, seed);
    ASSERT_EQ(ChecksumOf(bytes), 0xffff - OracleSum(bytes)) << seed;
  }
}

TEST(InternetChecksum, AddsPiecesAndWordsAsIfTheyWereOne) {
  const Bytes bytes = Pattern(64, 3);
  InternetChecksum sum;
  sum.Add(std::span(bytes).first(14));
  sum.AddWord(static_cast<uint16_t>(net_test::Get16(bytes, 14)));
  sum.Add(std::span(bytes).subspan(16));
  EXPECT_EQ(sum.Finish(), ChecksumOf(bytes));
}

}  // namespace
}  // namespace pacsvisor
