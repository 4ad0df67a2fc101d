// A card with a limit, by a clock of the test's: frames wait, none is lost, and the two directions
// do not share.
#include <atomic>

#include "tests/unit/devices/net/net_fixture.h"

namespace pacsvisor::net_test {
namespace {

constexpr uint64_t kLimitMs = 1'000'000;

class NetLimit : public NetDeviceTest {
 protected:
  // 100 kB a second each way: a burst of 10,000 bytes, ten frames of 1,000.
  void StartLimited() {
    auto owned = std::make_unique<FakeNetwork>(NetCapabilities{kEverything, kEverything, false});
    card_.reset();
    rig_ = std::make_unique<DeviceOnNetwork>();
    rig_->network = owned.get();
    rig_->device = NetDevice::Create({.name = "net0",
                                      .mac = kGuestMac,
                                      .send_limiter = Limiter(),
                                      .receive_limiter = Limiter()},
                                     std::move(owned))
                       .value();
    card_ = std::make_unique<GuestCard>(device(), *memory_, GuestCard::Options{kAllFeatures});
    network().Settle();
  }
  std::shared_ptr<RateLimiter> Limiter() {
    return RateLimiter::Create({.bytes_per_second = 100'000, .operations_per_second = std::nullopt},
                               [this] { return now_ns_.load(); })
        .value();
  }
  void TearDown() override {
    card_.reset();
    rig_.reset();
  }

  void Queue(uint32_t seed) {
    Bytes all(sizeof(VirtioNetHeader));
    Put(all, Frame(1000, seed));
    harness().driver(kNetTransmitQueue).Add({Readable(harness().heap().Place(all))});
  }
  // Exactly so many have gone out, also after every wake-up that there could be.
  void ExpectSent(uint32_t count) {
    for (; sent_ < count; ++sent_) {
      const auto sent = network().NextSent();
      ASSERT_TRUE(sent.has_value()) << sent_;
      ASSERT_EQ(sent->frame, Frame(1000, sent_)) << sent_;
      ASSERT_TRUE(harness().WaitUsed(kNetTransmitQueue).has_value()) << sent_;
    }
    Disturb();
    ASSERT_EQ(network().sent_count(), 0u);
  }
  void ExpectReceived(uint32_t count) {
    for (; received_ < count; ++received_) {
      const auto frame = card().Receive();
      ASSERT_TRUE(frame.has_value()) << received_;
      ASSERT_EQ(frame->bytes, Frame(1000, received_)) << received_;
    }
    Disturb();
    ASSERT_EQ(device().counters().received_frames, count);
  }
  void Disturb() {
    for (int i = 0; i < 3; ++i) {
      harness().doorbell(kNetTransmitQueue).Signal();
      harness().doorbell(kNetReceiveQueue).Signal();
      harness().Pause();
      harness().Resume();
      network().Settle();
    }
  }

  std::atomic<uint64_t> now_ns_ = 1000 * kLimitMs;
  uint32_t sent_ = 0;
  uint32_t received_ = 0;
};

TEST_F(NetLimit, SendsWhatTheClockAllows) {
  StartLimited();
  for (uint32_t i = 0; i < 20; ++i) {
    Queue(i);
  }
  harness().Kick(kNetTransmitQueue);
  ExpectSent(10);
  now_ns_ += 9 * kLimitMs;
  ExpectSent(11);  // taken with what there is, and 100 bytes of debt
  now_ns_ += 1 * kLimitMs;
  ExpectSent(11);
  now_ns_ += 1 * kLimitMs;
  ExpectSent(12);
  now_ns_ += 60'000 * kLimitMs;
  ExpectSent(20);
}

TEST_F(NetLimit, ReceivesWhatTheClockAllowsAndLosesNothing) {
  StartLimited();
  for (uint32_t i = 0; i < 20; ++i) {
    network().Inject(Frame(1000, i));
  }
  ExpectReceived(10);
  now_ns_ += 50 * kLimitMs;
  ExpectReceived(15);
  now_ns_ += 60'000 * kLimitMs;
  ExpectReceived(20);
  EXPECT_EQ(device().counters().receive_drops, 0u);
}

TEST_F(NetLimit, OneDirectionsTokensAreNotTheOthers) {
  StartLimited();
  for (uint32_t i = 0; i < 10; ++i) {
    Queue(i);
    network().Inject(Frame(1000, i));
  }
  harness().Kick(kNetTransmitQueue);
  ExpectSent(10);
  ExpectReceived(10);
}

TEST_F(NetLimit, AResetEndsAQueueThatWaitsAndBringsNoTokens) {
  StartLimited();
  for (uint32_t i = 0; i < 12; ++i) {
    Queue(i);
  }
  harness().Kick(kNetTransmitQueue);
  ExpectSent(10);
  ASSERT_TRUE(harness().Reset());
  card().Activate();
  network().Settle();
  Queue(10);
  harness().Kick(kNetTransmitQueue);
  ExpectSent(10);
  now_ns_ += 1 * kLimitMs;
  ExpectSent(11);
}

TEST_F(NetLimit, ARestoredCardSendsWhatWaited) {
  StartLimited();
  for (uint32_t i = 0; i < 12; ++i) {
    Queue(i);
  }
  harness().Kick(kNetTransmitQueue);
  ExpectSent(10);
  harness().Pause();
  StateNode saved;
  harness().Save(saved);
  DeviceOnNetwork twin;
  VirtioDeviceHarness twin_harness(*twin.device, *memory_);
  ASSERT_TRUE(twin_harness.Load(saved, harness()).ok());
  twin_harness.Resume();
  twin_harness.SignalAllQueues();
  EXPECT_EQ(twin.network->NextSent()->frame, Frame(1000, 10));
  EXPECT_EQ(twin.network->NextSent()->frame, Frame(1000, 11));
}

}  // namespace
}  // namespace pacsvisor::net_test
