// The receive queue of the network device.
#include "tests/unit/devices/net/net_fixture.h"

namespace pacsvisor::net_test {
namespace {

using NetReceive = NetDeviceTest;

TEST_F(NetReceive, PutsAFrameIntoABuffer) {
  Start();
  network().Inject(Frame(1000, 1), {.flags = kNetHeaderDataValid});
  const auto frame = card().Receive();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->bytes, Frame(1000, 1));
  EXPECT_EQ(frame->header.flags, kNetHeaderDataValid);
  EXPECT_EQ(frame->header.buffer_count, 1);
  EXPECT_EQ(device().counters().received_frames, 1u);
  EXPECT_EQ(device().counters().received_bytes, 1000u);
}

TEST_F(NetReceive, MergesBuffersOfEverySize) {
  for (const uint32_t buffer : {12u, 13u, 26u, 64u, 1536u, 4096u, 70000u}) {
    Start({.features = kAllFeatures, .receive_buffer_bytes = buffer, .receive_buffers = 60});
    for (const size_t size : {14ul, 60ul, 61ul, 690ul, 1514ul, 9000ul, 65535ul}) {
      if (12 + size > 60ul * buffer) {
        continue;
      }
      network().Inject(Frame(size, buffer));
      const auto frame = card().Receive();
      ASSERT_TRUE(frame.has_value()) << buffer << " " << size;
      ASSERT_EQ(frame->bytes, Frame(size, buffer)) << buffer << " " << size;
      EXPECT_EQ(frame->header.buffer_count, (12 + size + buffer - 1) / buffer);
    }
  }
}

TEST_F(NetReceive, FillsScatteredBuffers) {
  Start({.features = kAllFeatures, .receive_buffers = 0});
  std::vector<VirtioBuffer> pieces;
  std::vector<GuestRange> ranges;
  for (const uint64_t size : {3ul, 9ul, 1ul, 40ul, 500ul, 2000ul}) {
    ranges.push_back(harness().heap().Allocate(size));
    pieces.push_back(Writable(ranges.back()));
  }
  card().receive().AddIndirect(pieces);
  harness().Kick(kNetReceiveQueue);
  network().Inject(Frame(1200, 4));
  ASSERT_TRUE(harness().WaitUsed(kNetReceiveQueue).has_value());
  Bytes all;
  for (const GuestRange& range : ranges) {
    Put(all, harness().heap().Read(range));
  }
  EXPECT_EQ(Bytes(all.begin() + 12, all.begin() + 12 + 1200), Frame(1200, 4));
}

TEST_F(NetReceive, UsesOneBufferWhereMergingIsNotNegotiated) {
  Start({.features = kAllFeatures & ~kNetFeatureMergeBuffers,
         .receive_buffer_bytes = 1526,
         .receive_buffers = 4});
  network().Inject(Frame(1514, 1));
  network().Inject(Frame(1515, 2));  // too long for any: dropped
  network().Inject(Frame(60, 3));
  const auto first = card().Receive();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->bytes, Frame(1514, 1));
  EXPECT_EQ(first->header.buffer_count, 1);
  EXPECT_EQ(card().Receive()->bytes, Frame(60, 3));
  EXPECT_EQ(device().counters().receive_drops, 1u);
}

TEST_F(NetReceive, WaitsForBuffers) {
  Start({.features = kAllFeatures, .receive_buffer_bytes = 100, .receive_buffers = 0});
  for (uint32_t i = 0; i < 20; ++i) {
    network().Inject(Frame(250, i));
  }
  network().Settle();
  VirtqueueDriver& driver = card().receive();
  std::map<uint16_t, GuestRange> posted;
  uint32_t complete = 0;
  Bytes all;
  unsigned left = 0;
  // One buffer at a time: each frame needs three.
  while (complete < 20) {
    const GuestRange range = harness().heap().Allocate(100);
    posted[driver.Add({Writable(range)})] = range;
    driver.Kick(harness().doorbell(kNetReceiveQueue));
    network().Settle();
    if (posted.size() < 3) {
      EXPECT_FALSE(driver.TakeUsed().has_value());
      continue;
    }
    for (left = 3; left > 0; --left) {
      const auto used = harness().WaitUsed(kNetReceiveQueue);
      ASSERT_TRUE(used.has_value());
      Put(all, harness().heap().Read({posted.at(used->head).start, used->written_bytes}));
    }
    ASSERT_EQ(Bytes(all.begin() + 12, all.end()), Frame(250, complete));
    all.clear();
    posted.clear();
    ++complete;
  }
}

TEST_F(NetReceive, DropsAFrameThatTheWholeQueueCannotHold) {
  GuestCard::Options options{
      .features = kAllFeatures, .receive_buffer_bytes = 100, .receive_buffers = 4};
  options.ring.queue_size_limit = 4;
  Start(options);
  network().Inject(Frame(389, 1));
  network().Inject(Frame(388, 2));
  EXPECT_EQ(card().Receive()->bytes, Frame(388, 2));
  EXPECT_EQ(device().counters().receive_drops, 1u);
}

TEST_F(NetReceive, AsksForResetOnABufferShorterThanAHeader) {
  Start({.features = kAllFeatures, .receive_buffer_bytes = 11, .receive_buffers = 1});
  network().Inject(Frame(60, 1));
  EXPECT_TRUE(transport().WaitForNeedsReset());
  network().Inject(Frame(60, 2));  // and nothing worse
  network().Settle();
}

TEST_F(NetReceive, AsksForResetOnABufferThatItMayNotWrite) {
  Start({.features = kAllFeatures, .receive_buffers = 0});
  card().receive().Add(
      {Readable(harness().heap().Allocate(100)), Writable(harness().heap().Allocate(2000))});
  harness().Kick(kNetReceiveQueue);
  network().Inject(Frame(60, 1));
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(NetReceive, AsksForResetOnABrokenRing) {
  Start();
  card().receive().SetAvailableIndex(30000);
  network().Inject(Frame(60, 1));
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(NetReceive, MarksWhatItWrites) {
  Start({.features = kAllFeatures, .receive_buffers = 0});
  const GuestRange range = harness().heap().Allocate(16384, kPageSizeBytes);
  card().receive().Add({Writable(range)});
  harness().Kick(kNetReceiveQueue);
  ForgetDirty();
  network().Inject(Frame(9000, 1));
  ASSERT_TRUE(harness().WaitUsed(kNetReceiveQueue).has_value());
  for (uint64_t at = 0; at < range.size_bytes; at += kPageSizeBytes) {
    EXPECT_EQ(memory_->dirty().IsMarked(*memory_->BlockOf(GuestAddress(range.start.raw() + at))),
              at < 9012)
        << at;
  }
}

TEST_F(NetReceive, DropsWithoutDriverAndWithLinkDown) {
  Start();
  device().SetLink(false);
  network().Inject(Frame(60, 1));
  network().Settle();
  device().SetLink(true);
  network().Inject(Frame(60, 2));
  EXPECT_EQ(card().Receive()->bytes, Frame(60, 2));
  ASSERT_TRUE(harness().Reset());
  network().Inject(Frame(60, 3));
  network().Settle();
  card().Activate();
  network().Settle();
  network().Inject(Frame(60, 4));
  EXPECT_EQ(card().Receive()->bytes, Frame(60, 4));
  EXPECT_EQ(device().counters().receive_drops, 2u);
}

TEST_F(NetReceive, CompletesAChecksumThatTheDriverDoesNotTake) {
  Start({.features = kAllFeatures & ~kNetFeatureGuestChecksum});
  const Bytes packet =
      Udp4({1, 1, 1, 1}, {2, 2, 2, 2}, 5, 6, Pattern(333, 1), Checksums::kPseudoHeader);
  network().Inject(EthernetFrame(kGuestMac, kGuestMac, kEtherIp4, packet),
                   {.flags = kNetHeaderNeedsChecksum, .checksum_start = 34, .checksum_offset = 6});
  const auto frame = card().Receive();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->header.flags, 0);
  EXPECT_TRUE(Ip4View{frame->bytes}.payload_sum_right());
}

TEST_F(NetReceive, DropsSegmentsThatTheDriverDoesNotTake) {
  Start({.features = kAllFeatures & ~kNetFeatureGuestTso4});
  const VirtioNetHeader segments = {
      .flags = kNetHeaderNeedsChecksum, .gso_type = kNetGsoTcp4, .segment_bytes = 1460};
  network().Inject(Frame(3000, 1), segments);
  network().Inject(Frame(60, 2));
  EXPECT_EQ(card().Receive()->bytes, Frame(60, 2));
}

TEST_F(NetReceive, KeepsTheOrderUnderLoad) {
  Start({.features = kAllFeatures, .receive_buffer_bytes = 300, .receive_buffers = 48});
  constexpr uint32_t kFrames = 3000;
  for (uint32_t i = 0; i < kFrames; ++i) {
    network().Inject(Frame(20 + i * 7 % 1500, i));
  }
  for (uint32_t i = 0; i < kFrames; ++i) {
    const auto frame = card().Receive();
    ASSERT_TRUE(frame.has_value()) << i;
    ASSERT_EQ(frame->bytes, Frame(20 + i * 7 % 1500, i)) << i;
  }
}

}  // namespace
}  // namespace pacsvisor::net_test
