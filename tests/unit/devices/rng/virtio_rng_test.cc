#include "devices/rng/virtio_rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "tests/support/virtio_device_harness.h"

namespace pacsvisor {
namespace {

class VirtioRngTest : public testing::Test {
 protected:
  VirtioRngTest() { Make({}); }
  void Make(VirtioRng::Options options) {
    harness_.reset();
    rng_ = VirtioRng::Create(std::move(options)).value();
    harness_ = std::make_unique<VirtioDeviceHarness>(*rng_, *memory_);
  }
  // Zeroes in guest memory.
  GuestRange Buffer(uint64_t size_bytes) {
    const GuestRange range = harness_->heap().Allocate(size_bytes);
    CHECK(memory_->Fill(range, 0));
    return range;
  }
  uint64_t NonZero(GuestRange range) {
    const std::vector<uint8_t> bytes = harness_->heap().Read(range);
    return static_cast<uint64_t>(
        std::ranges::count_if(bytes, [](uint8_t byte) { return byte != 0; }));
  }

  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory();
  std::unique_ptr<VirtioRng> rng_;
  std::unique_ptr<VirtioDeviceHarness> harness_;
};

TEST_F(VirtioRngTest, FillsWhatTheDriverGives) {
  harness_->Activate();
  const GuestRange first = Buffer(100);
  const GuestRange second = Buffer(1000);
  harness_->driver(0).Add({Writable(first), Writable(second)});
  harness_->Kick(0);
  const auto used = harness_->WaitUsed(0);
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->written_bytes, 1100u);
  // Of random bytes one in 256 is zero: fewer than half non-zero does not happen.
  EXPECT_GT(NonZero(first), 50u);
  EXPECT_GT(NonZero(second), 500u);
}

TEST_F(VirtioRngTest, MarksWhatItWrites) {
  harness_->Activate();
  const GuestRange buffer = harness_->heap().Allocate(16, kPageSizeBytes);
  harness_->heap().Allocate(kPageSizeBytes, kPageSizeBytes);
  std::vector<uint64_t> words(memory_->dirty().word_count());
  memory_->dirty().TakeInto(words);
  harness_->driver(0).Add({Writable(buffer)});
  harness_->Kick(0);
  ASSERT_TRUE(harness_->WaitUsed(0).has_value());
  EXPECT_TRUE(memory_->dirty().IsMarked(*memory_->BlockOf(buffer.start)));
}

TEST_F(VirtioRngTest, ARequestGetsNoMoreThanTheLimit) {
  harness_->Activate();
  const GuestRange buffer = Buffer(kMiB);
  harness_->driver(0).AddIndirect({Writable(buffer)});
  harness_->Kick(0);
  const auto used = harness_->WaitUsed(0);
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->written_bytes, VirtioRng::kRequestLimitBytes);
  EXPECT_EQ(NonZero({GuestAddress(buffer.start.raw() + used->written_bytes),
                     buffer.size_bytes - used->written_bytes}),
            0u);
}

TEST_F(VirtioRngTest, NoTwoRequestsGetTheSameBytes) {
  harness_->Activate();
  std::vector<GuestRange> buffers;
  for (int i = 0; i < 32; ++i) {
    buffers.push_back(Buffer(700));
    harness_->driver(0).Add({Writable(buffers.back())});
  }
  harness_->Kick(0);
  for (int i = 0; i < 32; ++i) {
    ASSERT_TRUE(harness_->WaitUsed(0).has_value());
  }
  std::vector<std::vector<uint8_t>> pieces;
  for (const GuestRange& buffer : buffers) {
    const std::vector<uint8_t> bytes = harness_->heap().Read(buffer);
    for (size_t at = 0; at + 16 <= bytes.size(); at += 16) {
      pieces.emplace_back(bytes.begin() + static_cast<ptrdiff_t>(at),
                          bytes.begin() + static_cast<ptrdiff_t>(at + 16));
    }
  }
  std::ranges::sort(pieces);
  EXPECT_EQ(std::ranges::adjacent_find(pieces), pieces.end());
}

TEST_F(VirtioRngTest, RequestsWithoutRoomAreAnsweredAndCounted) {
  harness_->Activate();
  harness_->driver(0).Add({Readable(Buffer(64))});
  harness_->driver(0).Add({Writable({GuestAddress(0), 0})});
  harness_->Kick(0);
  for (int i = 0; i < 2; ++i) {
    const auto used = harness_->WaitUsed(0);
    ASSERT_TRUE(used.has_value());
    EXPECT_EQ(used->written_bytes, 0u);
  }
  EXPECT_EQ(rng_->malformed_requests(), 2u);
  EXPECT_TRUE(harness_->transport().reset_reasons().empty());
}

TEST_F(VirtioRngTest, ABrokenRingNeedsAResetAndWorksAfterIt) {
  harness_->Activate();
  harness_->driver(0).PublishHead(9999);
  harness_->driver(0).KickAlways(harness_->doorbell(0));
  ASSERT_TRUE(harness_->transport().WaitForNeedsReset());
  ASSERT_TRUE(harness_->Reset());
  harness_->Activate();
  harness_->driver(0).Add({Writable(Buffer(16))});
  harness_->Kick(0);
  EXPECT_TRUE(harness_->WaitUsed(0).has_value());
}

TEST_F(VirtioRngTest, RingsFilledBeforeActivationAreServedWithoutAKick) {
  const auto fill = [this] { harness_->driver(0).Add({Writable(Buffer(16))}); };
  harness_->Activate({.prepare = fill});
  EXPECT_TRUE(harness_->WaitUsed(0).has_value());
}

// Otherwise a driver that resets without end piles up work before a worker that is held up.
TEST_F(VirtioRngTest, AResetIsCompleteOnceTheWorkerHasHeardOfIt) {
  const auto held = std::make_shared<std::atomic<bool>>(false);
  Make({.clock = [held] {
    held->wait(true);
    return MonotonicNs();
  }});
  *held = true;
  harness_->Activate();
  rng_->StartReset();
  EXPECT_FALSE(rng_->ResetComplete());
  *held = false;
  held->notify_all();
  EXPECT_TRUE(harness_->Reset());
}

TEST_F(VirtioRngTest, ResetAndActivationAtAnyTime) {
  for (int round = 0; round < 100; ++round) {
    harness_->Activate();
    harness_->driver(0).Add({Writable(Buffer(64))});
    harness_->Kick(0);
    if (round % 2 == 0) {
      ASSERT_TRUE(harness_->WaitUsed(0).has_value());
    }
    ASSERT_TRUE(harness_->Reset());
  }
}

TEST_F(VirtioRngTest, TheRateIsKept) {
  std::atomic<uint64_t> now_ns = 1'000'000'000;
  Make({.bytes_per_second = kMiB, .burst_bytes = 8192, .clock = [&] { return now_ns.load(); }});
  harness_->Activate();
  const GuestRange buffer = Buffer(4096);
  for (int i = 0; i < 6; ++i) {
    harness_->driver(0).Add({Writable(buffer)});
  }
  harness_->Kick(0);
  // The burst is two requests. Then time stands still, and each later request is let through by
  // moving the clock by what 4096 bytes take.
  ASSERT_TRUE(harness_->WaitUsed(0).has_value());
  ASSERT_TRUE(harness_->WaitUsed(0).has_value());
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(harness_->driver(0).TakeUsed().has_value()) << i;
    now_ns += 3'906'250;
    ASSERT_TRUE(harness_->WaitUsed(0).has_value()) << i;
  }
  harness_.reset();
  rng_.reset();
}

TEST_F(VirtioRngTest, NothingIsTouchedWhilePaused) {
  harness_->Activate();
  harness_->Pause();
  std::vector<uint64_t> words(memory_->dirty().word_count());
  harness_->driver(0).Add({Writable(Buffer(64))});
  memory_->dirty().TakeInto(words);
  harness_->driver(0).KickAlways(harness_->doorbell(0));
  EXPECT_FALSE(harness_->driver(0).PollUsed(std::chrono::milliseconds(20)).has_value());
  EXPECT_EQ(memory_->dirty().CountMarked(), 0u);
  harness_->Resume();
  EXPECT_TRUE(harness_->WaitUsed(0).has_value());
}

TEST_F(VirtioRngTest, ARestoredDeviceServesWhatWasLeft) {
  harness_->Activate();
  harness_->driver(0).Add({Writable(Buffer(64))});
  harness_->Kick(0);
  ASSERT_TRUE(harness_->WaitUsed(0).has_value());
  harness_->Pause();
  const uint16_t head = harness_->driver(0).Add({Writable(Buffer(64))});
  StateNode node;
  harness_->Save(node);

  auto twin = VirtioRng::Create({}).value();
  VirtioDeviceHarness twin_harness(*twin, *memory_);
  ASSERT_TRUE(twin_harness.Load(node, *harness_).ok());
  twin_harness.Resume();
  twin_harness.SignalAllQueues();
  const auto used = twin_harness.WaitUsed(0);
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->head, head);
}

}  // namespace
}  // namespace pacsvisor
