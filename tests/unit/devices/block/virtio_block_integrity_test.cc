// Data integrity against a model: random mixed requests with overlaps, on one to four queues, on
// both real engines.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/unit/devices/block/block_fixture.h"

namespace pacsvisor {
namespace {

struct IntegrityCase {
  IoEngineKind engine;
  uint16_t queues;
  bool event_index;
  bool indirect;
};

class VirtioBlockIntegrity : public testing::TestWithParam<IntegrityCase> {
 protected:
  static constexpr uint64_t kRegionBytes = 512 << 10;  // of each queue
  static constexpr uint64_t kRegionSectors = kRegionBytes / 512;

  struct Pending {
    DriverRequest request;
    std::vector<uint8_t> expected;  // of a read
  };

  // A random request on `queue`, applied to the model at once: requests of one ring that overlap
  // take effect in its order, and each queue has a region of its own, since between rings there is
  // none.
  Pending Send(uint16_t queue) {
    const bool small = random_() % 4 != 0;
    const uint64_t sectors = 1 + random_() % (small ? 16 : 64);
    const uint64_t range = random_() % 2 == 0 ? 128 : kRegionSectors - sectors;
    const uint64_t sector = queue * kRegionSectors + random_() % range;
    const auto at = model_.begin() + static_cast<ptrdiff_t>(sector * 512);
    const uint64_t size = sectors * 512;
    switch (random_() % 8) {
      case 0:
        std::fill_n(at, size, 0);
        return {driver_->Segment(VirtioBlockType::kWriteZeroes,
                                 {.sector = sector,
                                  .sector_count = static_cast<uint32_t>(sectors),
                                  .flags = static_cast<uint32_t>(random_() % 2)},
                                 queue),
                {}};
      case 1:
        return {driver_->Flush(queue), {}};
      case 2:
      case 3:
      case 4: {
        std::vector<uint8_t> bytes(size);
        for (uint8_t& byte : bytes) {
          byte = static_cast<uint8_t>(random_());
        }
        std::copy(bytes.begin(), bytes.end(), at);
        return {driver_->Write(sector, bytes, queue), {}};
      }
      default:
        return {driver_->Read(sector, size, queue), {at, at + static_cast<ptrdiff_t>(size)}};
    }
  }

  void Collect(TestBlockDevice& block, uint16_t queue) {
    const auto used = block.harness.WaitUsed(queue);
    ASSERT_TRUE(used.has_value());
    auto node = pending_[queue].extract(used->head);
    ASSERT_FALSE(node.empty());
    const Pending& done = node.mapped();
    ASSERT_EQ(driver_->Status(done.request), kOk);
    if (!done.expected.empty()) {
      ASSERT_EQ(driver_->Data(done.request), done.expected);
    }
  }

  std::mt19937 random_{17};
  std::vector<uint8_t> model_ = std::vector<uint8_t>(kTestDiskBytes);
  std::optional<BlockDriver> driver_;
  std::map<uint16_t, std::map<uint16_t, Pending>> pending_;  // by queue and head
};

TEST_P(VirtioBlockIntegrity, AgreesWithTheModelThroughPausesAndResets) {
  const IntegrityCase& one = GetParam();
  const TestImage image;
  const std::unique_ptr<GuestMemory> memory = MakeTestMemory(192 * kMiB);
  TestBlockDevice block(image, CreateIoEngine(one.engine).value(), *memory,
                        {.name = "disk0", .queue_count = one.queues});
  driver_.emplace(block.harness, one.indirect);
  const VirtioDeviceHarness::Options options{.event_index = one.event_index,
                                             .indirect = one.indirect};
  block.Activate(options);
  for (int round = 0; round < 120; ++round) {
    for (uint16_t queue = 0; queue < one.queues; ++queue) {
      for (uint64_t i = random_() % 12; i > 0; --i) {
        const Pending sent = Send(queue);
        pending_[queue].emplace(sent.request.head, sent);
      }
      block.harness.Kick(queue);
    }
    if (round % 10 == 3) {
      block.harness.Pause();
      StateNode node;
      block.harness.Save(node);
      block.harness.Resume();
    }
    for (auto& [queue, pending] : pending_) {
      while (pending.size() > (round % 7 == 6 ? 0 : 8)) {
        ASSERT_NO_FATAL_FAILURE(Collect(block, queue)) << round;
      }
    }
    if (round % 35 == 34) {  // nothing in flight here
      ASSERT_TRUE(block.harness.Reset());
      block.Activate(options);
    }
  }
  for (auto& [queue, pending] : pending_) {
    while (!pending.empty()) {
      ASSERT_NO_FATAL_FAILURE(Collect(block, queue));
    }
  }
  EXPECT_EQ(image.Bytes(), model_);
  EXPECT_EQ(block.device->malformed_requests(), 0u);
  EXPECT_TRUE(block.harness.transport().reset_reasons().empty());
}

INSTANTIATE_TEST_SUITE_P(Engines, VirtioBlockIntegrity,
                         testing::Values(IntegrityCase{IoEngineKind::kUring, 1, true, true},
                                         IntegrityCase{IoEngineKind::kUring, 4, true, true},
                                         IntegrityCase{IoEngineKind::kUring, 4, false, false},
                                         IntegrityCase{IoEngineKind::kThreads, 1, false, true},
                                         IntegrityCase{IoEngineKind::kThreads, 3, true, false}),
                         [](const auto& one) {
                           return fmt::format(
                               "{}{}Queues{}{}",
                               one.param.engine == IoEngineKind::kUring ? "Uring" : "Threads",
                               one.param.queues, one.param.event_index ? "EventIndex" : "Flags",
                               one.param.indirect ? "Indirect" : "Direct");
                         });

}  // namespace
}  // namespace pacsvisor
