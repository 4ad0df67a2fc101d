// The transmit queue of the network device.
#include "tests/unit/devices/net/net_fixture.h"

namespace pacsvisor::net_test {
namespace {

using NetTransmit = NetDeviceTest;

TEST_F(NetTransmit, SendsAFrameAndGivesItBack) {
  Start();
  ASSERT_TRUE(card().Send(Frame(100, 1)));
  EXPECT_EQ(network().NextSent()->frame, Frame(100, 1));
  EXPECT_EQ(device().counters().sent_frames, 1u);
  EXPECT_EQ(device().counters().sent_bytes, 100u);
}

TEST_F(NetTransmit, SendsTheSameHoweverTheDriverCutsIt) {
  for (const bool gathers : {false, true}) {
    Start({.features = kAllFeatures}, {kEverything, kEverything, gathers});
    for (const size_t size : {14ul, 60ul, 1514ul, 4096ul, 4097ul, 30000ul, kNetMaxFrameBytes}) {
      for (const size_t pieces : {1ul, 2ul, 3ul, 7ul, 26ul, 60ul}) {
        ASSERT_TRUE(card().Send({}, Frame(size, 7), pieces)) << size << " " << pieces;
        ASSERT_EQ(network().NextSent()->frame, Frame(size, 7)) << size << " " << pieces;
      }
    }
  }
}

TEST_F(NetTransmit, SendsIndirectFrames) {
  Start();
  const Bytes frame = Frame(6000, 3);
  Bytes all(sizeof(VirtioNetHeader));
  Put(all, frame);
  const GuestRange range = harness().heap().Place(all);
  harness()
      .driver(kNetTransmitQueue)
      .AddIndirect({Readable({range.start, 5}),
                    Readable({GuestAddress(range.start.raw() + 5), range.size_bytes - 5})});
  harness().Kick(kNetTransmitQueue);
  ASSERT_TRUE(harness().WaitUsed(kNetTransmitQueue).has_value());
  EXPECT_EQ(network().NextSent()->frame, frame);
}

TEST_F(NetTransmit, KeepsTheOrderOverManyBatches) {
  Start();
  VirtqueueDriver& driver = harness().driver(kNetTransmitQueue);
  const GuestRange header = harness().heap().Place(Bytes(sizeof(VirtioNetHeader)));
  constexpr uint32_t kFrames = 2000;
  std::vector<GuestRange> frames;
  for (uint32_t i = 0; i < 32; ++i) {
    frames.push_back(harness().heap().Allocate(64));
  }
  uint32_t finished = 0;
  for (uint32_t i = 0; i < kFrames; ++i) {
    while (driver.in_flight() == frames.size()) {
      ASSERT_TRUE(harness().WaitUsed(kNetTransmitQueue).has_value());
      ++finished;
    }
    ASSERT_TRUE(memory_->Write(frames[i % frames.size()].start, Frame(64, i)));
    driver.Add({Readable(header), Readable(frames[i % frames.size()])});
    driver.Kick(harness().doorbell(kNetTransmitQueue));
  }
  while (finished < kFrames) {
    ASSERT_TRUE(harness().WaitUsed(kNetTransmitQueue).has_value());
    ++finished;
  }
  for (uint32_t i = 0; i < kFrames; ++i) {
    ASSERT_EQ(network().NextSent()->frame, Frame(64, i)) << i;
  }
}

TEST_F(NetTransmit, WorksWithoutEventIndex) {
  GuestCard::Options options{.features = kAllFeatures};
  options.ring.event_index = false;
  options.ring.indirect = false;
  Start(options);
  for (uint32_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(card().Send(Frame(200, i)));
    ASSERT_EQ(network().NextSent()->frame, Frame(200, i));
  }
}

TEST_F(NetTransmit, PassesOffloadsOn) {
  Start();
  const VirtioNetHeader header = {.flags = kNetHeaderNeedsChecksum,
                                  .gso_type = kNetGsoTcp6,
                                  .header_bytes = 74,
                                  .segment_bytes = 1440,
                                  .checksum_start = 54,
                                  .checksum_offset = 16};
  ASSERT_TRUE(card().Send(header, Frame(9000, 1)));
  const auto sent = network().NextSent();
  EXPECT_EQ(sent->header.gso_type, kNetGsoTcp6);
  EXPECT_EQ(sent->header.segment_bytes, 1440);
  EXPECT_EQ(sent->header.checksum_start, 54);
}

// Each is dropped and given back; the device goes on.
TEST_F(NetTransmit, DropsFramesWithHostileHeaders) {
  Start();
  const VirtioNetHeader segments = {.flags = kNetHeaderNeedsChecksum,
                                    .gso_type = kNetGsoTcp4,
                                    .segment_bytes = 1460,
                                    .checksum_start = 34,
                                    .checksum_offset = 16};
  std::vector<VirtioNetHeader> hostile(6, segments);
  hostile[0].segment_bytes = 0;
  hostile[1].gso_type = 0x7f;
  hostile[2].flags = 0;
  hostile[3].checksum_start = 99;
  hostile[4].checksum_offset = 65535;
  hostile[5].checksum_start = 65535;
  hostile[5].checksum_offset = 65535;
  for (const VirtioNetHeader& header : hostile) {
    ASSERT_TRUE(card().Send(header, Frame(100, 1)));
  }
  ASSERT_TRUE(card().Send(Bytes()));
  ASSERT_TRUE(card().Send(Bytes(13)));
  EXPECT_EQ(network().sent_count(), 0u);
  EXPECT_EQ(device().counters().send_drops, hostile.size() + 2);
  ASSERT_TRUE(card().Send(Frame(100, 2)));
  EXPECT_EQ(network().NextSent()->frame, Frame(100, 2));
  EXPECT_TRUE(transport().reset_reasons().empty());
}

TEST_F(NetTransmit, DropsOffloadsThatWereNotNegotiated) {
  Start({.features = kNetFeatureMac});
  ASSERT_TRUE(card().Send({.flags = kNetHeaderNeedsChecksum}, Frame(100, 1)));
  EXPECT_EQ(network().sent_count(), 0u);
}

TEST_F(NetTransmit, DropsAFrameLongerThanAnyCanBe) {
  Start();
  const GuestRange range = harness().heap().Allocate(2 * kMiB);
  harness().driver(kNetTransmitQueue).Add({Readable(range)});
  harness().Kick(kNetTransmitQueue);
  ASSERT_TRUE(harness().WaitUsed(kNetTransmitQueue).has_value());
  EXPECT_EQ(network().sent_count(), 0u);
}

TEST_F(NetTransmit, AsksForResetOnABufferShorterThanItsHeader) {
  Start();
  harness().driver(kNetTransmitQueue).Add({Readable(harness().heap().Allocate(11))});
  harness().Kick(kNetTransmitQueue);
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(NetTransmit, AsksForResetOnABufferThatItMayNotRead) {
  Start();
  harness()
      .driver(kNetTransmitQueue)
      .Add({Readable(harness().heap().Allocate(100)), Writable(harness().heap().Allocate(1))});
  harness().Kick(kNetTransmitQueue);
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(NetTransmit, AsksForResetOnABrokenRingAndWorksAfterIt) {
  Start();
  harness().driver(kNetTransmitQueue).SetAvailableIndex(30000);
  harness().doorbell(kNetTransmitQueue).Signal();
  EXPECT_TRUE(transport().WaitForNeedsReset());
  ASSERT_TRUE(harness().Reset());
  card().Activate();
  ASSERT_TRUE(card().Send(Frame(100, 2)));
  EXPECT_EQ(network().NextSent()->frame, Frame(100, 2));
}

TEST_F(NetTransmit, WaitsForABackEndThatIsFullWithoutLosingOrDoubling) {
  Start();
  network().AllowSends(0);
  VirtqueueDriver& driver = harness().driver(kNetTransmitQueue);
  for (uint32_t i = 0; i < 60; ++i) {
    Bytes all(sizeof(VirtioNetHeader));
    Put(all, Frame(70, i));
    driver.Add({Readable(harness().heap().Place(all))});
  }
  driver.Kick(harness().doorbell(kNetTransmitQueue));
  uint32_t seen = 0;
  while (seen < 60) {
    ASSERT_TRUE(network().WaitBlocked());
    EXPECT_EQ(driver.in_flight(), 60 - seen);
    network().AllowSends(7);
    for (uint32_t i = 0; i < 7 && seen < 60; ++i, ++seen) {
      ASSERT_EQ(network().NextSent()->frame, Frame(70, seen));
      ASSERT_TRUE(harness().WaitUsed(kNetTransmitQueue).has_value());
    }
  }
  EXPECT_EQ(network().sent_count(), 0u);
}

TEST_F(NetTransmit, DropsWhileTheLinkIsDown) {
  Start();
  device().SetLink(false);
  ASSERT_TRUE(card().Send(Frame(100, 1)));
  EXPECT_EQ(network().sent_count(), 0u);
  device().SetLink(true);
  ASSERT_TRUE(card().Send(Frame(100, 2)));
  EXPECT_EQ(network().NextSent()->frame, Frame(100, 2));
}

// A frame is only read; sending marks no page dirty but the used ring's.
TEST_F(NetTransmit, DirtiesNothingButItsRing) {
  Start({.features = kAllFeatures}, {kEverything, kEverything, true});
  VirtqueueDriver& driver = harness().driver(kNetTransmitQueue);
  Bytes all(sizeof(VirtioNetHeader));
  Put(all, Frame(9000, 1));
  const GuestRange range = harness().heap().Place(all, kPageSizeBytes);
  (void)harness().heap().Allocate(1, kPageSizeBytes);
  driver.Add({Readable(range)});
  ForgetDirty();
  driver.Kick(harness().doorbell(kNetTransmitQueue));
  ASSERT_TRUE(harness().WaitUsed(kNetTransmitQueue).has_value());
  for (uint64_t at = 0; at < range.size_bytes; at += kPageSizeBytes) {
    EXPECT_FALSE(
        memory_->dirty().IsMarked(*memory_->BlockOf(GuestAddress(range.start.raw() + at))));
  }
  EXPECT_TRUE(memory_->dirty().IsMarked(*memory_->BlockOf(driver.layout().used_ring)));
}

}  // namespace
}  // namespace pacsvisor::net_test
