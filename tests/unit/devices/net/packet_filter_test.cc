#include "devices/net/packet_filter.h"

#include <gtest/gtest.h>

#include "tests/unit/devices/net/packets.h"

namespace pacsvisor {
namespace {

using net_test::Bytes;

constexpr MacAddress kOwn = {0x52, 0, 0, 0, 0, 1};
constexpr MacAddress kOther = {0x52, 0, 0, 0, 0, 2};
constexpr MacAddress kGroup = {0x01, 0, 0x5e, 0, 0, 1};
constexpr MacAddress kOtherGroup = {0x01, 0, 0x5e, 0, 0, 2};
constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

Bytes To(MacAddress to) { return net_test::EthernetFrame(to, kOther, 0x0800, Bytes(40)); }

void PutTable(Bytes& bytes, const std::vector<MacAddress>& table) {
  const auto count = static_cast<uint32_t>(table.size());
  for (unsigned shift = 0; shift < 32; shift += 8) {
    bytes.push_back(static_cast<uint8_t>(count >> shift));
  }
  for (const MacAddress& address : table) {
    net_test::Put(bytes, address);
  }
}

Bytes Tables(const std::vector<MacAddress>& unicast, const std::vector<MacAddress>& multicast) {
  Bytes bytes;
  PutTable(bytes, unicast);
  PutTable(bytes, multicast);
  return bytes;
}

// Which of own, other, group, other group, broadcast pass.
std::vector<bool> Passing(const PacketFilter& filter) {
  return {filter.Wants(To(kOwn), kOwn), filter.Wants(To(kOther), kOwn),
          filter.Wants(To(kGroup), kOwn), filter.Wants(To(kOtherGroup), kOwn),
          filter.Wants(To(kBroadcast), kOwn)};
}

PacketFilter Selective() {
  PacketFilter filter;
  EXPECT_TRUE(filter.SetMode(kNetControlRxPromiscuous, false));
  return filter;
}

TEST(PacketFilter, LetsEverythingThroughUntilToldOtherwise) {
  EXPECT_EQ(Passing(PacketFilter()), (std::vector{true, true, true, true, true}));
}

TEST(PacketFilter, LetsOwnAndBroadcastThroughWhenNotPromiscuous) {
  EXPECT_EQ(Passing(Selective()), (std::vector{true, false, false, false, true}));
}

TEST(PacketFilter, LetsTheAddressesOfItsTablesThrough) {
  PacketFilter filter = Selective();
  ASSERT_TRUE(filter.SetTables(Tables({kOther}, {kGroup})));
  EXPECT_EQ(Passing(filter), (std::vector{true, true, true, false, true}));
  ASSERT_TRUE(filter.SetTables(Tables({}, {})));
  EXPECT_EQ(Passing(filter), (std::vector{true, false, false, false, true}));
}

TEST(PacketFilter, ObeysEachMode) {
  const auto with = [](uint8_t mode) {
    PacketFilter filter = Selective();
    EXPECT_TRUE(filter.SetMode(mode, true));
    return Passing(filter);
  };
  EXPECT_EQ(with(kNetControlRxAllMulticast), (std::vector{true, false, true, true, true}));
  EXPECT_EQ(with(kNetControlRxAllUnicast), (std::vector{true, true, false, false, true}));
  EXPECT_EQ(with(kNetControlRxNoUnicast), (std::vector{false, false, false, false, true}));
  EXPECT_EQ(with(kNetControlRxNoBroadcast), (std::vector{true, false, false, false, false}));
  PacketFilter none = Selective();
  ASSERT_TRUE(none.SetTables(Tables({}, {kGroup})));
  ASSERT_TRUE(none.SetMode(kNetControlRxNoMulticast, true));
  EXPECT_EQ(Passing(none), (std::vector{true, false, false, false, true}));
}

TEST(PacketFilter, KnowsNoOtherMode) {
  for (unsigned mode = kNetControlRxNoBroadcast + 1; mode < 256; ++mode) {
    PacketFilter filter;
    EXPECT_FALSE(filter.SetMode(static_cast<uint8_t>(mode), true));
  }
}

TEST(PacketFilter, LetsAllOfAKindThroughWhenItsTableIsTooLong) {
  PacketFilter filter = Selective();
  const std::vector<MacAddress> many(PacketFilter::kMaxAddresses + 1, kOther);
  ASSERT_TRUE(filter.SetTables(Tables({}, many)));
  EXPECT_EQ(Passing(filter), (std::vector{true, false, true, true, true}));
}

TEST(PacketFilter, RefusesEveryTruncationOfItsTablesAndKeepsTheOld) {
  const Bytes whole = Tables({kOther, kOwn}, {kGroup});
  PacketFilter filter = Selective();
  ASSERT_TRUE(filter.SetTables(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(filter.SetTables(std::span(whole).first(size))) << size;
  }
  Bytes longer = whole;
  longer.push_back(0);
  EXPECT_FALSE(filter.SetTables(longer));
  EXPECT_FALSE(filter.SetTables(Bytes(8, 0xff)));
  EXPECT_EQ(Passing(filter), (std::vector{true, true, true, false, true}));
}

TEST(PacketFilter, IsTheSameAfterSaveAndLoad) {
  PacketFilter filter = Selective();
  ASSERT_TRUE(filter.SetTables(Tables({kOther}, {kGroup})));
  ASSERT_TRUE(filter.SetMode(kNetControlRxNoBroadcast, true));
  StateNode node;
  filter.Save(node);
  PacketFilter loaded;
  ASSERT_TRUE(loaded.Load(node).ok());
  EXPECT_EQ(Passing(loaded), Passing(filter));
}

TEST(PacketFilter, RefusesSavedTablesThatCannotBe) {
  for (const size_t size : {size_t{5}, (PacketFilter::kMaxAddresses + 1) * sizeof(MacAddress)}) {
    StateNode node;
    PacketFilter().Save(node);
    StateNode broken;
    broken.SetVersion(1);
    for (const char* name : {"promiscuous", "all_multicast", "all_unicast", "no_multicast",
                             "no_unicast", "no_broadcast"}) {
      broken.SetBool(name, false);
    }
    for (const char* name : {"unicast", "multicast"}) {
      StateNode& table = broken.AddChild(name);
      table.SetBool("overflow", false);
      table.SetBytes("addresses", Bytes(size));
    }
    PacketFilter filter;
    EXPECT_FALSE(filter.Load(broken).ok()) << size;
  }
}

}  // namespace
}  // namespace pacsvisor
