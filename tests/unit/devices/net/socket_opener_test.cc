#include "devices/net/socket_opener.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/devices/net/packets.h"

namespace pacsvisor::net_test {
namespace {

constexpr Ip4 kOpenerFrom = {10, 0, 2, 15};
constexpr Ip4 kOpenerTo = {192, 0, 2, 1};

Bytes Packed(const Bytes& packet) { return EthernetFrame(kGuestMac, kGuestMac, kEtherIp4, packet); }

Bytes TcpWith(uint8_t flags) {
  Bytes tcp(20);
  tcp[12] = 0x50;
  tcp[13] = flags;
  return Packed(Ip4Packet(kOpenerFrom, kOpenerTo, 6, tcp));
}

TEST(SocketNeed, OnlyTheFirstSegmentOfAConnectionOpensOne) {
  EXPECT_EQ(SocketNeedOf(TcpWith(0x02)), SocketNeed::kStream);  // SYN
  EXPECT_EQ(SocketNeedOf(TcpWith(0xc2)), SocketNeed::kStream);  // with ECN
  EXPECT_EQ(SocketNeedOf(TcpWith(0x12)), SocketNeed::kNone);    // SYN, ACK
  EXPECT_EQ(SocketNeedOf(TcpWith(0x10)), SocketNeed::kNone);
  EXPECT_EQ(SocketNeedOf(TcpWith(0x11)), SocketNeed::kNone);  // FIN, ACK
}

TEST(SocketNeed, DatagramsMayAndOtherProtocolsDoNot) {
  EXPECT_EQ(SocketNeedOf(Packed(Udp4(kOpenerFrom, kOpenerTo, 1, 2, Bytes(8)))),
            SocketNeed::kDatagram);
  EXPECT_EQ(SocketNeedOf(Packed(Ip4Packet(kOpenerFrom, kOpenerTo, 1, Bytes(8)))),
            SocketNeed::kDatagram);
  EXPECT_EQ(SocketNeedOf(EthernetFrame(kGuestMac, kGuestMac, 0x0806, Bytes(28))),
            SocketNeed::kNone);
  EXPECT_EQ(SocketNeedOf(Bytes(10)), SocketNeed::kNone);
}

TEST(SocketNeed, FragmentsAreOnesWhateverTheyHold) {
  for (const uint32_t field : {0x2000, 0x0001, 0x2100, 0x6000, 0x8000}) {
    Bytes frame = TcpWith(0x10);
    Set16(frame, 14 + 6, field);
    EXPECT_EQ(SocketNeedOf(frame), SocketNeed::kFragment) << field;
  }
  Bytes whole = TcpWith(0x10);
  Set16(whole, 14 + 6, 0x4000);  // don't fragment
  EXPECT_EQ(SocketNeedOf(whole), SocketNeed::kNone);
}

// Whatever the lengths claim, nothing is read behind the frame (the sanitizers watch), and a
// connection is not opened by cutting its header short.
TEST(SocketNeed, AFrameCutShortIsTakenForWhatCostsMost) {
  std::mt19937 random(1);
  for (size_t size = 0; size < 80; ++size) {
    for (int round = 0; round < 50; ++round) {
      Bytes frame(size);
      for (uint8_t& byte : frame) {
        byte = static_cast<uint8_t>(random());
      }
      if (size > 14) {
        frame[12] = 8;
        frame[13] = 0;
      }
      (void)SocketNeedOf(frame);
    }
  }
  Bytes frame = TcpWith(0x10);
  frame.resize(14 + 20 + 13);
  EXPECT_EQ(SocketNeedOf(frame), SocketNeed::kStream);
  frame = TcpWith(0x10);
  frame[14] = 0x4f;  // options to the end
  EXPECT_EQ(SocketNeedOf(frame), SocketNeed::kStream);
}

}  // namespace
}  // namespace pacsvisor::net_test
