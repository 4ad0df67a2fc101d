// A disk with a limit: by a clock of the test's, exactly what the limit allows is served, and a
// queue that waits for it can be paused, saved, restored and reset.
#include <gtest/gtest.h>

#include <atomic>

#include "tests/unit/devices/block/block_fixture.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kMs = 1'000'000;

struct LimitedDisk {
  explicit LimitedDisk(const RateLimits& limits)
      : limiter(RateLimiter::Create(limits, [clock = &now_ns] { return clock->load(); }).value()),
        disk({.name = "disk0", .serial = "data", .limiter = limiter}) {
    disk.block.Activate();
  }

  VirtioDeviceHarness& harness() { return disk.block.harness; }
  BlockDriver& driver() { return disk.block.driver; }

  // Exactly so many have been served when the device has nothing more to do: it is told of every
  // wake-up that there could be, and paused.
  void ExpectServed(uint16_t count) {
    while (served < count) {
      ASSERT_TRUE(harness().WaitUsed(0).has_value()) << served << " of " << count;
      ++served;
    }
    for (int i = 0; i < 3; ++i) {
      harness().doorbell(0).Signal();
      harness().Pause();
      harness().Resume();
    }
    harness().Pause();
    ASSERT_EQ(harness().driver(0).used_index(), count);
    harness().Resume();
  }
  std::vector<DriverRequest> Reads(unsigned count, uint64_t size_bytes = 512) {
    std::vector<DriverRequest> requests;
    for (unsigned i = 0; i < count; ++i) {
      requests.push_back(driver().Read(i * size_bytes / 512, size_bytes));
    }
    harness().Kick(0);
    return requests;
  }

  std::atomic<uint64_t> now_ns = 1000 * kMs;
  std::shared_ptr<RateLimiter> limiter;
  FaultBlockDevice disk;
  uint16_t served = 0;
};

TEST(VirtioBlockLimit, ServesTheOperationsThatTheClockAllows) {
  LimitedDisk test({.bytes_per_second = std::nullopt, .operations_per_second = 100});
  test.Reads(20);
  test.ExpectServed(10);  // the burst
  test.now_ns += 9 * kMs;
  test.ExpectServed(10);
  test.now_ns += 1 * kMs;
  test.ExpectServed(11);
  test.now_ns += 55 * kMs;
  test.ExpectServed(16);
  test.now_ns += 3'600'000 * kMs;
  test.ExpectServed(20);
}

// Taken while there is anything, and paid for by those after: 100,000 bytes of burst hold two of
// 64 KiB, which leave a debt of 31,072.
TEST(VirtioBlockLimit, ServesTheBytesThatTheClockAllows) {
  LimitedDisk test({.bytes_per_second = 1'000'000, .operations_per_second = std::nullopt});
  test.Reads(5, 65536);
  test.ExpectServed(2);
  test.now_ns += 31 * kMs;
  test.ExpectServed(2);
  test.now_ns += 1 * kMs;
  test.ExpectServed(3);
  test.now_ns += 65 * kMs;
  test.ExpectServed(3);
  test.now_ns += 1 * kMs;
  test.ExpectServed(4);
}

TEST(VirtioBlockLimit, CountsWritesAndZeroesByTheirBytes) {
  LimitedDisk test({.bytes_per_second = 1'000'000, .operations_per_second = std::nullopt});
  test.driver().Segment(VirtioBlockType::kWriteZeroes, {.sector = 0, .sector_count = 196});
  test.driver().Write(0, 512, 0x11);
  test.driver().Write(8, 512, 0x11);
  test.harness().Kick(0);
  test.ExpectServed(1);  // 100,352 bytes
  test.now_ns += 1 * kMs;
  test.ExpectServed(3);
}

TEST(VirtioBlockLimit, CountsAFlushAsOneOperationAndASegmentAsOne) {
  LimitedDisk test({.bytes_per_second = 1'000'000, .operations_per_second = 30});
  test.driver().Flush();
  test.driver().Flush();
  const VirtioBlockSegment segments[] = {{.sector = 0, .sector_count = 8192},
                                         {.sector = 0, .sector_count = 8192},
                                         {.sector = 0, .sector_count = 8192}};
  test.driver().Segments(VirtioBlockType::kDiscard, segments);  // no bytes, three operations
  test.driver().Flush();
  test.driver().GetId();
  test.harness().Kick(0);
  test.ExpectServed(3);
  test.now_ns += 99 * kMs;  // two of debt, and the next one
  test.ExpectServed(3);
  test.now_ns += 1 * kMs;
  test.ExpectServed(4);
}

TEST(VirtioBlockLimit, AResetEndsAQueueThatWaitsAndBringsNoTokens) {
  LimitedDisk test({.bytes_per_second = std::nullopt, .operations_per_second = 100});
  test.Reads(20);
  test.ExpectServed(10);
  ASSERT_TRUE(test.harness().Reset());
  test.disk.block.Activate();
  test.served = 0;
  test.Reads(5);
  test.ExpectServed(0);
  test.now_ns += 30 * kMs;
  test.ExpectServed(3);
}

TEST(VirtioBlockLimit, ARestoredMachineServesWhatWaited) {
  LimitedDisk test({.bytes_per_second = std::nullopt, .operations_per_second = 100});
  std::vector<DriverRequest> requests;
  for (uint8_t i = 0; i < 20; ++i) {
    requests.push_back(test.driver().Write(i * 8u, 4096, i));
  }
  test.harness().Kick(0);
  test.ExpectServed(10);
  test.disk.HoldAll();
  test.now_ns += 20 * kMs;
  test.disk.AwaitHeld(2);  // two in flight, eight in the ring
  test.harness().Pause();
  StateNode node;
  test.harness().Save(node);

  const auto limiter =
      RateLimiter::Create({.bytes_per_second = std::nullopt, .operations_per_second = 50}, [&test] {
        return test.now_ns.load();
      }).value();
  const TestImage image;
  TestBlockDevice twin(image, std::make_unique<FaultEngine>(), *test.disk.memory,
                       {.name = "disk0", .serial = "data", .limiter = limiter});
  ASSERT_TRUE(twin.harness.Load(node, test.harness()).ok());
  twin.ResumeRestored();
  // Those in flight are not asked, but counted: of the burst of 5, 3 are left.
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(twin.harness.WaitUsed(0).has_value()) << i;
  }
  twin.harness.Pause();
  EXPECT_EQ(twin.harness.driver(0).used_index(), 15);
  twin.harness.Resume();
  test.now_ns += 1000 * kMs;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(twin.harness.WaitUsed(0).has_value()) << i;
  }
  for (size_t i = 10; i < 20; ++i) {
    EXPECT_EQ(twin.driver.Status(requests[i]), kOk) << i;
    EXPECT_EQ(image.Bytes()[i * 4096], i);
  }
  test.disk.LetGo();
}

// By the real clock: a limit that is met all the time, and a machine that is paused all the time.
TEST(VirtioBlockLimit, ManyPausesAtTheLimitLoseNothing) {
  FaultBlockDevice test({.name = "disk0",
                         .queue_count = 2,
                         .limiter = RateLimiter::Create({.bytes_per_second = 64'000'000,
                                                         .operations_per_second = 20'000})
                                        .value()});
  test.block.Activate();
  for (uint16_t round = 0; round < 200; ++round) {
    std::vector<DriverRequest> requests;
    for (uint16_t i = 0; i < 32; ++i) {
      const auto fill = static_cast<uint8_t>(round + i);
      requests.push_back(test.block.driver.Write(i * 8u, 1024, fill, i % 2));
    }
    test.block.harness.Kick(0);
    test.block.harness.Kick(1);
    test.block.harness.Pause();
    StateNode node;
    test.block.harness.Save(node);
    test.block.harness.Resume();
    for (const DriverRequest& request : requests) {
      ASSERT_TRUE(test.block.harness.WaitUsed(request.queue).has_value()) << round;
    }
    for (const DriverRequest& request : requests) {
      ASSERT_EQ(test.block.driver.Status(request), kOk);
    }
    for (uint16_t i = 0; i < 32 && round % 50 == 0; ++i) {
      ASSERT_EQ(test.image.Bytes()[i * 4096u], static_cast<uint8_t>(round + i));
    }
  }
}

// Without this one could be in flight for hours, whatever the limit says.
TEST(VirtioBlockLimit, ARequestOfMoreThanTheMostDataIsRefused) {
  FaultBlockDevice test;
  test.block.Activate();
  const GuestRange data = test.block.harness.heap().Allocate(kMiB, 512);
  const VirtioBlockHeader header = BlockDriver::Header(VirtioBlockType::kIn, 0);
  const GuestRange head =
      test.block.harness.heap().Place({reinterpret_cast<const uint8_t*>(&header), sizeof(header)});
  const GuestRange status = test.block.harness.heap().Allocate(1);
  std::vector<VirtioBuffer> buffers = {Readable(head)};
  for (int i = 0; i < 65; ++i) {
    buffers.push_back(Writable(data));  // the same place over and over: 65 MiB
  }
  buffers.push_back(Writable(status));
  test.block.harness.driver(0).AddIndirect(buffers);
  ASSERT_TRUE(test.block.driver.Await().has_value());
  EXPECT_EQ(test.block.harness.heap().Read(status)[0], kIoError);
  EXPECT_EQ(test.block.device->malformed_requests(), 1u);
}

}  // namespace
}  // namespace pacsvisor
