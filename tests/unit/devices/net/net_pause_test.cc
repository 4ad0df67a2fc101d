// Pause, resume, reset, save and load of the network device, with traffic.
#include <thread>

#include "tests/unit/devices/net/net_fixture.h"

namespace pacsvisor::net_test {
namespace {

class NetPause : public NetDeviceTest {
 protected:
  // A second device, restored from what the first one saves now. The first stays paused.
  void Restore() {
    harness().Pause();
    harness().Save(saved_);
    twin_ = std::make_unique<DeviceOnNetwork>();
    twin_harness_ = std::make_unique<VirtioDeviceHarness>(*twin_->device, *memory_);
    ASSERT_TRUE(twin_harness_->Load(saved_, harness()).ok());
  }
  void TearDown() override {
    twin_harness_.reset();
    twin_.reset();
    card_.reset();
  }

  uint16_t AddFrame(const Bytes& frame) {
    Bytes all(sizeof(VirtioNetHeader));
    Put(all, frame);
    return harness().driver(kNetTransmitQueue).Add({Readable(harness().heap().Place(all))});
  }
  uint16_t TwinStatus() {
    Bytes status(2);
    twin_->device->ReadConfig(6, status);
    return static_cast<uint16_t>(status[0] | status[1] << 8);
  }

  // The restored driver has looked at its link.
  void RestoreUntilLinkIsDown() {
    Restore();
    seen_ = twin_harness_->transport().config_interrupts();
    twin_harness_->Resume();
    ASSERT_TRUE(twin_harness_->transport().WaitForConfigInterrupt(seen_));
    EXPECT_EQ(TwinStatus(), 0);
  }

  StateNode saved_;
  uint64_t seen_ = 0;  // interrupts for the configuration, before it was resumed
  std::unique_ptr<DeviceOnNetwork> twin_;
  std::unique_ptr<VirtioDeviceHarness> twin_harness_;
};

TEST_F(NetPause, TouchesNothingWhilePausedAndLosesNothing) {
  Start();
  harness().Pause();
  AddFrame(Frame(60, 1));
  harness().doorbell(kNetTransmitQueue).Signal();
  network().Inject(Frame(60, 2));
  network().Settle();
  EXPECT_EQ(harness().driver(kNetTransmitQueue).used_index(), 0);
  EXPECT_EQ(card().receive().used_index(), 0);
  EXPECT_EQ(network().sent_count(), 0u);
  harness().Resume();
  EXPECT_EQ(network().NextSent()->frame, Frame(60, 1));
  EXPECT_TRUE(harness().WaitUsed(kNetTransmitQueue).has_value());
  EXPECT_EQ(card().Receive()->bytes, Frame(60, 2));
}

TEST_F(NetPause, LosesNothingOverManyPausesWithTraffic) {
  Start({.features = kAllFeatures, .receive_buffer_bytes = 200, .receive_buffers = 40});
  constexpr uint32_t kFrames = 2000;
  std::thread injector([&] {
    for (uint32_t i = 0; i < kFrames; ++i) {
      network().Inject(Frame(20 + i % 700, i));
    }
  });
  std::atomic<bool> stop = false;
  std::thread pauser([&] {
    while (!stop) {
      device().Pause();
      StateNode node;
      device().Save(node);
      device().Resume();
      std::this_thread::yield();
    }
  });
  for (uint32_t i = 0; i < kFrames; ++i) {
    const auto frame = card().Receive();
    ASSERT_TRUE(frame.has_value()) << i;
    ASSERT_EQ(frame->bytes, Frame(20 + i % 700, i)) << i;
    ASSERT_TRUE(card().Send(Frame(64, i)));
    ASSERT_EQ(network().NextSent()->frame, Frame(64, i));
  }
  stop = true;
  pauser.join();
  injector.join();
}

TEST_F(NetPause, IsResetAtAnyTimeUnderTraffic) {
  Start();
  std::atomic<bool> stop = false;
  std::thread injector([&] {
    for (uint32_t i = 0; !stop; ++i) {
      network().Inject(Frame(60 + i % 3000, i));
      if (i % 64 == 0) {
        network().Settle();
      }
    }
  });
  for (uint32_t round = 0; round < 60; ++round) {
    for (uint32_t i = 0; i < round % 20; ++i) {
      AddFrame(Frame(64, i));
    }
    harness().Kick(kNetTransmitQueue);
    if (round % 3 == 0) {
      EXPECT_TRUE(card().Receive().has_value());
    }
    ASSERT_TRUE(harness().Reset());
    card().Activate();
  }
  stop = true;
  injector.join();
  network().Settle();
  ASSERT_TRUE(card().Send(Frame(64, 1)));
}

TEST_F(NetPause, ARestoredDeviceFinishesFramesInFlightWithoutSendingThem) {
  Start();
  network().AllowSends(2);
  for (uint32_t i = 0; i < 5; ++i) {
    AddFrame(Frame(60, i));
  }
  harness().Kick(kNetTransmitQueue);
  ASSERT_TRUE(network().WaitBlocked());
  Restore();
  twin_harness_->Resume();
  twin_harness_->SignalAllQueues();
  VirtqueueDriver& driver = twin_harness_->driver(kNetTransmitQueue);
  while (driver.in_flight() != 0) {
    ASSERT_TRUE(twin_harness_->WaitUsed(kNetTransmitQueue).has_value());
  }
  EXPECT_EQ(twin_->network->sent_count(), 0u);
  // The source goes on: nothing lost, nothing doubled.
  harness().Resume();
  network().AllowSends(100);
  for (uint32_t i = 0; i < 5; ++i) {
    ASSERT_EQ(network().NextSent()->frame, Frame(60, i));
  }
}

TEST_F(NetPause, FramesHeldBackOverTwoInstantsAreSentOnceAndByTheSourceOnly) {
  Start();
  network().AllowSends(2);
  for (uint32_t i = 0; i < 5; ++i) {
    AddFrame(Frame(60, i));
  }
  harness().Kick(kNetTransmitQueue);
  ASSERT_TRUE(network().WaitBlocked());
  harness().Pause();
  StateNode first;
  harness().Save(first);
  harness().Resume();
  network().Settle();
  EXPECT_EQ(network().sent_count(), 2u);
  Restore();
  twin_harness_->Resume();
  twin_harness_->SignalAllQueues();
  VirtqueueDriver& driver = twin_harness_->driver(kNetTransmitQueue);
  while (driver.in_flight() != 0) {
    ASSERT_TRUE(twin_harness_->WaitUsed(kNetTransmitQueue).has_value());
  }
  EXPECT_EQ(twin_->network->sent_count(), 0u);
  harness().Resume();
  network().AllowSends(100);
  for (uint32_t i = 0; i < 5; ++i) {
    ASSERT_EQ(network().NextSent()->frame, Frame(60, i));
  }
  network().Settle();
  EXPECT_EQ(network().sent_count(), 0u);
}

TEST_F(NetPause, AReceivedFrameHeldBackOverTwoInstantsArrivesOnceAndAtTheSourceOnly) {
  Start({.features = kAllFeatures, .receive_buffers = 0});
  std::vector<GuestRange> ranges;
  const auto add = [&](VirtqueueDriver& driver) {
    ranges.push_back(harness().heap().Allocate(100));
    return driver.Add({Writable(ranges.back())});
  };
  add(card().receive());
  add(card().receive());
  network().Inject(Frame(250, 9));  // needs three: it waits with two of them in its hands
  network().Settle();
  ASSERT_EQ(harness().queue(kNetReceiveQueue).in_flight(), 2);
  harness().Pause();
  StateNode first;
  harness().Save(first);
  harness().Resume();
  network().Settle();
  EXPECT_EQ(card().receive().used_index(), 0);
  Restore();
  EXPECT_EQ(harness().queue(kNetReceiveQueue).in_flight(), 2);
  // To what was restored no frame came: its buffers stay as they were given.
  twin_harness_->Resume();
  twin_harness_->SignalAllQueues();
  twin_->network->Settle();
  EXPECT_EQ(twin_harness_->driver(kNetReceiveQueue).in_flight(), 2u);
  twin_harness_->Pause();
  // The source goes on: the frame arrives in the buffers of before both instants and a new one.
  harness().Resume();
  add(card().receive());
  card().receive().Kick(harness().doorbell(kNetReceiveQueue));
  Bytes all;
  for (const GuestRange& range : ranges) {
    const auto used = harness().WaitUsed(kNetReceiveQueue);
    ASSERT_TRUE(used.has_value());
    Put(all, harness().heap().Read({range.start, used->written_bytes}));
  }
  EXPECT_EQ(Bytes(all.begin() + 12, all.end()), Frame(250, 9));
  network().Settle();
  EXPECT_EQ(card().receive().in_flight(), 0u);
}

TEST_F(NetPause, ARestoredDeviceSendsWhatWasNotTakenYet) {
  Start();
  harness().Pause();
  AddFrame(Frame(60, 1));
  Restore();
  twin_harness_->Resume();
  twin_harness_->SignalAllQueues();
  EXPECT_EQ(twin_->network->NextSent()->frame, Frame(60, 1));
}

TEST_F(NetPause, ARestoredDeviceReceivesIntoBuffersThatWereHeld) {
  Start({.features = kAllFeatures, .receive_buffers = 0});
  std::vector<GuestRange> ranges;
  const auto add = [&](VirtqueueDriver& driver) {
    ranges.push_back(harness().heap().Allocate(100));
    return driver.Add({Writable(ranges.back())});
  };
  add(card().receive());
  add(card().receive());
  network().Inject(Frame(250, 9));  // needs three
  network().Settle();
  EXPECT_EQ(harness().queue(kNetReceiveQueue).in_flight(), 2);
  Restore();
  twin_harness_->Resume();
  twin_harness_->SignalAllQueues();
  add(twin_harness_->driver(kNetReceiveQueue));
  twin_harness_->driver(kNetReceiveQueue).Kick(twin_harness_->doorbell(kNetReceiveQueue));
  twin_->network->Settle();
  twin_->network->Inject(Frame(250, 10));
  Bytes all;
  for (const GuestRange& range : ranges) {
    const auto used = twin_harness_->WaitUsed(kNetReceiveQueue);
    ASSERT_TRUE(used.has_value());
    Put(all, harness().heap().Read({range.start, used->written_bytes}));
  }
  EXPECT_EQ(Bytes(all.begin() + 12, all.end()), Frame(250, 10));
}

TEST_F(NetPause, ARestoredDeviceCanBeSavedAgainBeforeItRuns) {
  Start({.features = kAllFeatures, .receive_buffer_bytes = 100, .receive_buffers = 2});
  network().Inject(Frame(250, 9));
  network().AllowSends(0);
  AddFrame(Frame(60, 1));
  harness().Kick(kNetTransmitQueue);
  ASSERT_TRUE(network().WaitBlocked());
  network().Settle();
  Restore();
  StateNode first;
  device().Save(first);
  StateNode again;
  twin_->device->Save(again);
  for (const char* heads : {"receive_heads", "transmit_heads"}) {
    const auto before = first.BytesOf(heads).value();
    const auto after = again.BytesOf(heads).value();
    EXPECT_EQ(Bytes(before.begin(), before.end()), Bytes(after.begin(), after.end()));
    EXPECT_FALSE(before.empty());
  }
}

TEST_F(NetPause, ARestoredDriverSeesTheLinkGoDownAndUpAndIsAskedToAnnounce) {
  Start();
  RestoreUntilLinkIsDown();
  ASSERT_TRUE(twin_harness_->transport().WaitForConfigInterrupt(seen_ + 1));
  EXPECT_EQ(TwinStatus(), kNetStatusLinkUp | kNetStatusAnnounce);
}

TEST_F(NetPause, ARestoredDeviceKeepsModesAndAddress) {
  Start();
  ASSERT_EQ(card().Control({kNetControlRxClass, kNetControlRxPromiscuous, 0}), kNetControlOk);
  ASSERT_EQ(card().Control({kNetControlMacClass, kNetControlMacAddressSet, 2, 2, 2, 2, 2, 2}),
            kNetControlOk);
  Restore();
  Bytes mac(6);
  twin_->device->ReadConfig(0, mac);
  EXPECT_EQ(mac, Bytes(6, 2));
  twin_harness_->Resume();
  twin_->network->Settle();
  EXPECT_EQ(twin_->network->offloads(), kEverything);
  twin_->network->Inject(Frame(60, 1));  // no longer to its address
  while (twin_->device->counters().receive_drops == 0) {
    twin_->network->Settle();  // it waits until the link has been down and up
  }
  EXPECT_EQ(twin_->device->counters().receive_drops, 1u);
}

// It could not answer: its link is down.
TEST_F(NetPause, AFrameForARestoredGuestWaitsUntilItsLinkIsUpAgain) {
  Start();
  RestoreUntilLinkIsDown();
  twin_->network->Inject(Frame(60, 1));
  ASSERT_TRUE(twin_harness_->WaitUsed(kNetReceiveQueue).has_value());
  EXPECT_EQ(twin_harness_->transport().config_interrupts(), seen_ + 2);
  EXPECT_EQ(twin_->device->counters().receive_drops, 0u);
}

TEST_F(NetPause, ADriverThatNeverLooksAtItsLinkGetsItsFramesAllTheSame) {
  Start();
  Restore();
  twin_harness_->Resume();
  twin_->network->Inject(Frame(60, 1));
  EXPECT_TRUE(twin_harness_->WaitUsed(kNetReceiveQueue).has_value());
}

// A saved state is input from outside.
TEST_F(NetPause, RefusesSavedHeadsThatCannotBe) {
  Start();
  harness().Pause();
  const auto load = [&](const char* list, const Bytes& heads) {
    StateNode node;
    device().Save(node);
    node.mutable_fields().at(list).value = StateNode::Bytes(heads);
    DeviceOnNetwork other;
    return other.device->Load(node).ok();
  };
  EXPECT_TRUE(load("receive_heads", {1, 0, 2, 0}));
  EXPECT_FALSE(load("receive_heads", {1, 0, 2}));
  EXPECT_FALSE(load("receive_heads", {1, 0, 1, 0}));
  EXPECT_FALSE(load("receive_heads", Bytes(2 * 513)));
  EXPECT_FALSE(load("transmit_heads", Bytes(2 * 257)));
}

TEST_F(NetPause, AsksForResetWhenSavedHeadsDoNotFitTheQueues) {
  for (const Bytes& heads : {Bytes{1, 0}, Bytes{0xff, 0xff}}) {
    Start();
    harness().Pause();
    StateNode node;
    harness().Save(node);
    auto& sub = std::get<StateNode::Field::Sub>(node.mutable_fields().at("device").value);
    sub.nodes[0].mutable_fields().at("transmit_heads").value = StateNode::Bytes(heads);
    DeviceOnNetwork other;
    VirtioDeviceHarness other_harness(*other.device, *memory_);
    ASSERT_TRUE(other_harness.Load(node, harness()).ok());
    other_harness.Resume();
    EXPECT_TRUE(other_harness.transport().WaitForNeedsReset());
  }
}

}  // namespace
}  // namespace pacsvisor::net_test
