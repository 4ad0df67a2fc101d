// What the network device offers and tells its driver; link; control queue.
#include "devices/net/disconnected_backend.h"
#include "tests/unit/devices/net/net_fixture.h"

namespace pacsvisor::net_test {
namespace {

constexpr uint64_t kOwnFeatures = kNetFeatureMac | kNetFeatureStatus | kNetFeatureMergeBuffers |
                                  kNetFeatureControlQueue | kNetFeatureControlRx |
                                  kNetFeatureControlRxExtra | kNetFeatureControlMac |
                                  kNetFeatureGuestAnnounce;

uint64_t Offered(NetCapabilities capabilities) {
  return DeviceOnNetwork(capabilities).device->device_features();
}

TEST(NetDeviceFeatures, AreTheDevicesOwnAndWhatTheBackEndCarries) {
  EXPECT_EQ(Offered({}), kOwnFeatures);
  EXPECT_EQ(Offered({.from_guest = {.checksum = true}}), kOwnFeatures | kNetFeatureChecksum);
  EXPECT_EQ(Offered({.from_guest = {.checksum = true, .tcp4_segments = true}}),
            kOwnFeatures | kNetFeatureChecksum | kNetFeatureHostTso4);
  EXPECT_EQ(Offered({.to_guest = {.checksum = true, .tcp6_segments = true}}),
            kOwnFeatures | kNetFeatureGuestChecksum | kNetFeatureGuestTso6);
  // 5.1.3.1: segmentation needs checksums.
  EXPECT_EQ(Offered({.from_guest = {.tcp4_segments = true}}), kOwnFeatures);
}

TEST(NetDeviceOptions, RefusesAddressesAndMtusThatCannotBe) {
  const auto create = [](MacAddress mac, uint16_t mtu) {
    return NetDevice::Create({.name = "net0", .mac = mac, .mtu_bytes = mtu},
                             std::make_unique<DisconnectedBackend>());
  };
  EXPECT_TRUE(create(kGuestMac, 0).ok());
  EXPECT_TRUE(create(kGuestMac, 68).ok());
  EXPECT_FALSE(create(kGuestMac, 67).ok());
  EXPECT_FALSE(create({}, 0).ok());
  EXPECT_FALSE(create({1, 2, 3, 4, 5, 6}, 0).ok());
}

TEST(NetDeviceOptions, TellsTheDriverTheMtu) {
  const auto device = NetDevice::Create({.name = "net0", .mac = kGuestMac, .mtu_bytes = 9000},
                                        std::make_unique<DisconnectedBackend>())
                          .value();
  EXPECT_NE(device->device_features() & kNetFeatureMtu, 0u);
  Bytes mtu(2);
  device->ReadConfig(10, mtu);
  EXPECT_EQ(mtu[0] | mtu[1] << 8, 9000);
}

TEST_F(NetDeviceTest, ShowsItsConfigurationByEveryOffsetAndLength) {
  Start();
  Bytes whole = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 1, 0, 1, 0, 0, 0};
  whole.resize(40);
  for (size_t offset = 0; offset < 20; ++offset) {
    for (size_t size = 0; size < 20; ++size) {
      Bytes data(size, 0xee);
      device().ReadConfig(offset, data);
      ASSERT_EQ(data, Bytes(&whole[offset], &whole[offset] + size)) << offset << " " << size;
    }
  }
  Bytes data(8, 0xee);
  device().ReadConfig(UINT64_MAX - 3, data);
  EXPECT_EQ(data, Bytes(8));
  device().WriteConfig(0, Bytes(6, 0x77));
  device().ReadConfig(0, data);
  EXPECT_EQ(data[0], 0x52);
}

TEST_F(NetDeviceTest, TellsTheBackEndWhatTheDriverTakes) {
  Start({.features = kNetFeatureGuestChecksum | kNetFeatureGuestTso4});
  EXPECT_EQ(network().offloads(), (NetOffloads{.checksum = true, .tcp4_segments = true}));
  Start({.features = kNetFeatureGuestTso4});  // means nothing without checksums
  EXPECT_EQ(network().offloads(), NetOffloads{});
}

TEST_F(NetDeviceTest, ShowsTheLinkGoDownAndUp) {
  Start();
  EXPECT_EQ(Status(), kNetStatusLinkUp);
  const uint64_t seen = transport().config_interrupts();
  const uint8_t generation = device().config_generation();
  device().SetLink(false);
  EXPECT_EQ(Status(), 0);
  EXPECT_EQ(transport().config_interrupts(), seen + 1);
  EXPECT_NE(device().config_generation(), generation);
  device().SetLink(false);
  EXPECT_EQ(transport().config_interrupts(), seen + 1);
  device().SetLink(true);
  EXPECT_EQ(Status(), kNetStatusLinkUp);
  EXPECT_EQ(transport().config_interrupts(), seen + 2);
}

TEST_F(NetDeviceTest, ShowsTheBackEndsLink) {
  Start();
  const uint64_t seen = transport().config_interrupts();
  network().SetLink(false);
  ASSERT_TRUE(transport().WaitForConfigInterrupt(seen));
  EXPECT_EQ(Status(), 0);
  EXPECT_FALSE(device().link_up());
}

TEST_F(NetDeviceTest, IsDownWithoutACable) {
  const auto device =
      NetDevice::Create({.name = "net0", .mac = kGuestMac}, std::make_unique<DisconnectedBackend>())
          .value();
  GuestCard card(*device, *memory_, {.features = kNetFeatureStatus});
  EXPECT_FALSE(device->link_up());
  EXPECT_TRUE(card.Send(Frame(60, 1)));
  EXPECT_EQ(device->counters().send_drops, 1u);
}

TEST_F(NetDeviceTest, AsksForAnAnnouncementUntilTheDriverHasMadeIt) {
  Start();
  const uint64_t seen = transport().config_interrupts();
  device().Announce();
  EXPECT_EQ(transport().config_interrupts(), seen + 1);
  EXPECT_EQ(Status(), kNetStatusLinkUp | kNetStatusAnnounce);
  EXPECT_EQ(card().Control({kNetControlAnnounceClass, kNetControlAnnounceAck}), kNetControlOk);
  EXPECT_EQ(Status(), kNetStatusLinkUp);
}

TEST_F(NetDeviceTest, AsksForNoAnnouncementThatWasNotNegotiated) {
  Start({.features = kAllFeatures & ~kNetFeatureGuestAnnounce});
  device().Announce();
  EXPECT_EQ(Status(), kNetStatusLinkUp);
}

TEST_F(NetDeviceTest, FiltersAsTheDriverSays) {
  Start();
  ASSERT_EQ(card().Control({kNetControlRxClass, kNetControlRxPromiscuous, 0}), kNetControlOk);
  Bytes other = Frame(60, 1);
  other[5] ^= 1;
  network().Inject(other);
  network().Inject(Frame(60, 2));
  EXPECT_EQ(card().Receive()->bytes, Frame(60, 2));
  ASSERT_EQ(card().Control({kNetControlMacClass, kNetControlMacAddressSet, other[0], other[1],
                            other[2], other[3], other[4], other[5]}),
            kNetControlOk);
  network().Inject(Frame(60, 3));
  network().Inject(other);
  EXPECT_EQ(card().Receive()->bytes, other);
  Bytes mac(6);
  device().ReadConfig(0, mac);
  EXPECT_EQ(mac, Bytes(other.begin(), other.begin() + 6));
}

TEST_F(NetDeviceTest, ForgetsModesAndAddressOnReset) {
  Start();
  ASSERT_EQ(card().Control({kNetControlRxClass, kNetControlRxPromiscuous, 0}), kNetControlOk);
  ASSERT_EQ(card().Control({kNetControlMacClass, kNetControlMacAddressSet, 2, 2, 2, 2, 2, 2}),
            kNetControlOk);
  ASSERT_TRUE(harness().Reset());
  card().Activate();
  network().Settle();
  Bytes mac(6);
  device().ReadConfig(0, mac);
  EXPECT_EQ(mac, Bytes(kGuestMac.begin(), kGuestMac.end()));
  Bytes other = Frame(60, 1);
  other[5] ^= 1;
  network().Inject(other);
  EXPECT_EQ(card().Receive()->bytes, other);
}

TEST_F(NetDeviceTest, RefusesControlCommandsItDoesNotKnow) {
  Start();
  for (unsigned type = 4; type < 256; type += 9) {
    EXPECT_EQ(card().Control({static_cast<uint8_t>(type), 0, 1, 2, 3}), kNetControlError);
  }
  EXPECT_EQ(card().Control(Bytes(kNetControlMaxBytes)), kNetControlError);
  EXPECT_EQ(card().Control(Bytes(kNetControlMaxBytes + 1)), kNetControlError);
  EXPECT_TRUE(transport().reset_reasons().empty());
}

TEST_F(NetDeviceTest, AsksForResetOnACommandWithoutRoomForItsAnswer) {
  Start();
  harness().driver(kNetControlQueue).Add({Readable(harness().heap().Allocate(10))});
  harness().Kick(kNetControlQueue);
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(NetDeviceTest, AsksForResetOnACommandWithoutAClass) {
  Start();
  harness()
      .driver(kNetControlQueue)
      .Add({Readable(harness().heap().Allocate(1)), Writable(harness().heap().Allocate(1))});
  harness().Kick(kNetControlQueue);
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(NetDeviceTest, RunsWithoutAControlQueue) {
  GuestCard::Options options{.features = kNetFeatureMac | kNetFeatureStatus};
  options.ring.queue_count = 2;
  Start(options);
  ASSERT_TRUE(card().Send(Frame(60, 1)));
  network().Inject(Frame(60, 2));
  EXPECT_TRUE(card().Receive().has_value());
}

}  // namespace
}  // namespace pacsvisor::net_test
