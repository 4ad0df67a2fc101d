#include "devices/net/transmit_header.h"

#include <gtest/gtest.h>

#include "tests/unit/devices/net/packets.h"

namespace pacsvisor {
namespace {

using net_test::Bytes;
using net_test::Checksums;
using net_test::EthernetFrame;
using net_test::Ip4;
using net_test::Ip4View;
using net_test::IsIp4;
using net_test::kEtherIp4;
using net_test::kGuestMac;
using net_test::Pattern;

constexpr uint64_t kAllFeatures =
    kNetFeatureChecksum | kNetFeatureHostTso4 | kNetFeatureHostTso6 | kNetFeatureHostEcn;
constexpr Ip4 kFrom = {10, 0, 2, 15};
constexpr Ip4 kTo = {10, 0, 2, 2};

VirtioNetHeader Segmented(uint8_t gso_type) {
  return {.flags = kNetHeaderNeedsChecksum,
          .gso_type = gso_type,
          .header_bytes = 54,
          .segment_bytes = 1460,
          .checksum_start = 34,
          .checksum_offset = 16};
}

TransmitVerdict Check(VirtioNetHeader header, uint64_t features = kAllFeatures,
                      uint64_t frame_bytes = 1514) {
  return CheckTransmitHeader(header, features, frame_bytes);
}

Bytes TcpFrame(const Bytes& data, Checksums checksums) {
  return EthernetFrame(
      kGuestMac, kGuestMac, kEtherIp4,
      net_test::Tcp4(kFrom, kTo, {.from_port = 1, .to_port = 2, .flags = 16}, data, checksums));
}

TEST(CheckTransmitHeader, AcceptsWhatWasNegotiated) {
  EXPECT_EQ(Check({}), TransmitVerdict::kOk);
  EXPECT_EQ(Check({}, 0), TransmitVerdict::kOk);
  for (const uint8_t type : {kNetGsoTcp4, kNetGsoTcp6}) {
    EXPECT_EQ(Check(Segmented(type)), TransmitVerdict::kOk);
    EXPECT_EQ(Check(Segmented(type | kNetGsoEcn)), TransmitVerdict::kOk);
  }
}

TEST(CheckTransmitHeader, RefusesFramesThatCannotBe) {
  EXPECT_EQ(Check({}, 0, 0), TransmitVerdict::kFrameSize);
  EXPECT_EQ(Check({}, 0, 13), TransmitVerdict::kFrameSize);
  EXPECT_EQ(Check({}, 0, 14), TransmitVerdict::kOk);
  EXPECT_EQ(Check({}, 0, kNetMaxFrameBytes), TransmitVerdict::kOk);
  EXPECT_EQ(Check({}, 0, kNetMaxFrameBytes + 1), TransmitVerdict::kFrameSize);
  EXPECT_EQ(Check({}, 0, uint64_t{1} << 32), TransmitVerdict::kFrameSize);
}

TEST(CheckTransmitHeader, RefusesEachOffloadWithoutItsFeature) {
  EXPECT_EQ(Check({.flags = kNetHeaderNeedsChecksum}, kAllFeatures & ~kNetFeatureChecksum),
            TransmitVerdict::kNotNegotiated);
  EXPECT_EQ(Check(Segmented(kNetGsoTcp4), kAllFeatures & ~kNetFeatureHostTso4),
            TransmitVerdict::kNotNegotiated);
  EXPECT_EQ(Check(Segmented(kNetGsoTcp6), kAllFeatures & ~kNetFeatureHostTso6),
            TransmitVerdict::kNotNegotiated);
  EXPECT_EQ(Check(Segmented(kNetGsoTcp4 | kNetGsoEcn), kAllFeatures & ~kNetFeatureHostEcn),
            TransmitVerdict::kNotNegotiated);
}

TEST(CheckTransmitHeader, RefusesEveryOtherKindOfSegmentation) {
  for (unsigned type = 1; type < 256; ++type) {
    const unsigned kind = type & ~unsigned{kNetGsoEcn};
    const bool known = kind == kNetGsoTcp4 || kind == kNetGsoTcp6;
    EXPECT_EQ(Check(Segmented(static_cast<uint8_t>(type))),
              known ? TransmitVerdict::kOk : TransmitVerdict::kSegmentation)
        << type;
  }
}

TEST(CheckTransmitHeader, RefusesSegmentationWithoutSizeOrChecksum) {
  VirtioNetHeader no_size = Segmented(kNetGsoTcp4);
  no_size.segment_bytes = 0;
  EXPECT_EQ(Check(no_size), TransmitVerdict::kSegmentation);
  VirtioNetHeader no_checksum = Segmented(kNetGsoTcp4);
  no_checksum.flags = 0;
  EXPECT_EQ(Check(no_checksum), TransmitVerdict::kSegmentation);
}

TEST(CheckTransmitHeader, AcceptsChecksumFieldsInsideTheFrameOnly) {
  constexpr uint64_t kSize = 64;
  for (uint32_t start = 0; start < 70; ++start) {
    for (uint32_t offset = 0; offset < 70; ++offset) {
      const VirtioNetHeader header = {.flags = kNetHeaderNeedsChecksum,
                                      .checksum_start = static_cast<uint16_t>(start),
                                      .checksum_offset = static_cast<uint16_t>(offset)};
      EXPECT_EQ(Check(header, kAllFeatures, kSize) == TransmitVerdict::kOk,
                start + offset + 2 <= kSize);
    }
  }
  EXPECT_EQ(
      Check({.flags = kNetHeaderNeedsChecksum, .checksum_start = 0xffff, .checksum_offset = 0xffff},
            kAllFeatures, kNetMaxFrameBytes),
      TransmitVerdict::kChecksum);
}

TEST(CheckTransmitHeader, ClearsWhatMeansNothing) {
  VirtioNetHeader header = {
      .flags = 0xfe, .header_bytes = 2000, .checksum_start = 9999, .buffer_count = 7};
  ASSERT_EQ(CheckTransmitHeader(header, kAllFeatures, 100), TransmitVerdict::kOk);
  EXPECT_EQ(header.flags, 0);
  EXPECT_EQ(header.header_bytes, 0);
  EXPECT_EQ(header.buffer_count, 0);
}

TEST(CompleteChecksum, MakesUdpAndTcpRightByTheOracle) {
  for (uint32_t size = 0; size < 300; ++size) {
    Bytes tcp = TcpFrame(Pattern(size, size), Checksums::kPseudoHeader);
    CompleteChecksum(
        {.flags = kNetHeaderNeedsChecksum, .checksum_start = 34, .checksum_offset = 16}, tcp);
    ASSERT_TRUE(Ip4View{tcp}.payload_sum_right()) << size;
    EXPECT_EQ(tcp, TcpFrame(Pattern(size, size), Checksums::kComplete));

    Bytes udp = EthernetFrame(
        kGuestMac, kGuestMac, kEtherIp4,
        net_test::Udp4(kFrom, kTo, 7, 9, Pattern(size, size), Checksums::kPseudoHeader));
    CompleteChecksum({.flags = kNetHeaderNeedsChecksum, .checksum_start = 34, .checksum_offset = 6},
                     udp);
    ASSERT_TRUE(Ip4View{udp}.payload_sum_right()) << size;
  }
}

TEST(CompleteChecksum, WritesASumOfZeroAsAllOnes) {
  Bytes frame(20, 0);
  frame[14] = 0xff;
  frame[15] = 0xff;
  CompleteChecksum({.flags = kNetHeaderNeedsChecksum, .checksum_start = 14, .checksum_offset = 2},
                   frame);
  EXPECT_EQ(net_test::Get16(frame, 16), 0xffffu);
}

TEST(CompleteChecksum, TouchesNothingWhenNotAsked) {
  Bytes frame = Pattern(60, 1);
  const Bytes before = frame;
  CompleteChecksum({.checksum_start = 14, .checksum_offset = 2}, frame);
  EXPECT_EQ(frame, before);
}

TEST(CompleteLargeTcp4, MakesOneRightSegmentWhateverTheDriverLeftInTheFields) {
  for (const size_t size : {0ul, 1ul, 1460ul, 1461ul, 16000ul, 65535ul - 40}) {
    for (const uint32_t junk : {0u, 0xffffu, 0x1234u}) {
      const Bytes wanted = TcpFrame(Pattern(size, 5), Checksums::kComplete);
      Bytes frame = wanted;
      net_test::Set16(frame, 16, junk);       // total length
      net_test::Set16(frame, 24, junk ^ 21);  // header checksum
      net_test::Set16(frame, 14 + 20 + 16, junk ^ 7);
      ASSERT_EQ(CompleteLargeTcp4(frame), TransmitVerdict::kOk);
      ASSERT_TRUE(IsIp4(frame));
      EXPECT_TRUE(Ip4View{frame}.header_sum_right());
      EXPECT_TRUE(Ip4View{frame}.payload_sum_right());
      EXPECT_EQ(frame, wanted);
    }
  }
}

TEST(CompleteLargeTcp4, RefusesEveryTruncation) {
  const Bytes whole = TcpFrame(Pattern(40, 1), Checksums::kComplete);
  for (size_t size = 0; size < 14 + 20 + 20; ++size) {
    Bytes frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(CompleteLargeTcp4(frame), TransmitVerdict::kNotTcp) << size;
  }
}

TEST(CompleteLargeTcp4, RefusesWhatIsNotOneTcpSegment) {
  const auto refused = [](size_t at, uint8_t value) {
    Bytes frame = TcpFrame(Pattern(40, 1), Checksums::kComplete);
    frame[at] = value;
    return CompleteLargeTcp4(frame) == TransmitVerdict::kNotTcp;
  };
  EXPECT_TRUE(refused(13, 0xdd));            // EtherType
  EXPECT_TRUE(refused(14, 0x65));            // version 6
  EXPECT_TRUE(refused(14, 0x44));            // a header of 16 bytes
  EXPECT_TRUE(refused(20, 0x20));            // more fragments
  EXPECT_TRUE(refused(21, 0x01));            // a later fragment
  EXPECT_TRUE(refused(23, 17));              // UDP
  EXPECT_TRUE(refused(14 + 20 + 12, 0x40));  // a TCP header of 16 bytes
  Bytes cut = TcpFrame(Pattern(39, 1), Checksums::kComplete);
  cut[14 + 20 + 12] = 0xf0;  // a TCP header of 60 bytes in 59
  EXPECT_EQ(CompleteLargeTcp4(cut), TransmitVerdict::kNotTcp);
  Bytes too_long = TcpFrame(Bytes(65535 - 40), Checksums::kComplete);
  too_long.push_back(0);
  EXPECT_EQ(CompleteLargeTcp4(too_long), TransmitVerdict::kNotTcp);
}

// Any bytes at all: accepted ones are right by the oracle, none is touched outside.
TEST(CompleteLargeTcp4, IsRightOrRefusesOnEveryMutationOfTheHeaders) {
  const Bytes whole = TcpFrame(Pattern(100, 1), Checksums::kPseudoHeader);
  for (size_t at = 0; at < 54; ++at) {
    for (unsigned value = 0; value < 256; ++value) {
      Bytes frame = whole;
      frame[at] = static_cast<uint8_t>(value);
      if (CompleteLargeTcp4(frame) == TransmitVerdict::kOk) {
        ASSERT_TRUE(IsIp4(frame)) << at << " " << value;
        ASSERT_TRUE(Ip4View{frame}.header_sum_right()) << at << " " << value;
        ASSERT_TRUE(Ip4View{frame}.payload_sum_right()) << at << " " << value;
      }
    }
  }
}

}  // namespace
}  // namespace pacsvisor
