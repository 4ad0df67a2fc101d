// A network device over the fake network, with a driver.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "tests/unit/devices/net/fake_network.h"
#include "tests/unit/devices/net/guest_card.h"

namespace pacsvisor::net_test {

inline constexpr NetOffloads kEverything = {
    .checksum = true, .tcp4_segments = true, .tcp6_segments = true, .ecn_segments = true};

// A device and the network behind it, which the device owns.
struct DeviceOnNetwork {
  explicit DeviceOnNetwork(NetCapabilities capabilities = {kEverything, kEverything, false}) {
    auto owned = std::make_unique<FakeNetwork>(capabilities);
    network = owned.get();
    device = NetDevice::Create({.name = "net0", .mac = kGuestMac}, std::move(owned)).value();
  }
  FakeNetwork* network;
  std::unique_ptr<NetDevice> device;
};

class NetDeviceTest : public testing::Test {
 protected:
  static constexpr uint64_t kAllFeatures =
      kNetFeatureChecksum | kNetFeatureGuestChecksum | kNetFeatureMac | kNetFeatureGuestTso4 |
      kNetFeatureGuestTso6 | kNetFeatureGuestEcn | kNetFeatureHostTso4 | kNetFeatureHostTso6 |
      kNetFeatureHostEcn | kNetFeatureMergeBuffers | kNetFeatureStatus | kNetFeatureControlQueue |
      kNetFeatureControlRx | kNetFeatureControlRxExtra | kNetFeatureGuestAnnounce |
      kNetFeatureControlMac;

  // A device with a driver that has negotiated `options.features`.
  void Start(GuestCard::Options options,
             NetCapabilities capabilities = {kEverything, kEverything, false}) {
    card_.reset();
    rig_ = std::make_unique<DeviceOnNetwork>(capabilities);
    card_ = std::make_unique<GuestCard>(device(), *memory_, options);
    network().Settle();
  }
  void Start() { Start({.features = kAllFeatures}); }

  NetDevice& device() { return *rig_->device; }
  FakeNetwork& network() { return *rig_->network; }
  GuestCard& card() { return *card_; }
  VirtioDeviceHarness& harness() { return card_->harness(); }
  FakeVirtioTransport& transport() { return card_->harness().transport(); }

  void ForgetDirty() {
    std::vector<uint64_t> words(memory_->dirty().word_count());
    memory_->dirty().TakeInto(words);
  }

  uint16_t Status() {
    Bytes status(2);
    device().ReadConfig(offsetof(VirtioNetConfigSpace, status), status);
    return static_cast<uint16_t>(status[0] | status[1] << 8);
  }

  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory();
  std::unique_ptr<DeviceOnNetwork> rig_;
  std::unique_ptr<GuestCard> card_;
};

inline Bytes Frame(size_t size, uint32_t seed) {
  Bytes frame = EthernetFrame(kGuestMac, kGuestMac, 0x88b5, Pattern(size - 14, seed));
  return frame;
}

}  // namespace pacsvisor::net_test
