#include "devices/block/virtio_block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/devices/block/block_fixture.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;

// ---- configuration

VirtioBlockConfig ReadConfigOf(VirtioDevice& device) {
  VirtioBlockConfig config;
  // A trivially copyable structure may be written as bytes.
  device.ReadConfig(0, {reinterpret_cast<uint8_t*>(&config), sizeof(config)});
  return config;
}

TEST(VirtioBlockConfiguration, TellsTheDiskAndItsLimits) {
  FaultBlockDevice test({.name = "disk0", .queue_count = 3});
  const VirtioBlockConfig config = ReadConfigOf(*test.block.device);
  EXPECT_EQ(config.capacity_sectors, kTestDiskBytes / 512);
  EXPECT_EQ(config.seg_max, 254u);
  EXPECT_EQ(config.block_size_bytes, 512u);
  EXPECT_EQ(config.physical_block_exponent, 3u);
  EXPECT_EQ(config.num_queues, 3u);
  EXPECT_EQ(config.max_discard_segments, 32u);
  EXPECT_EQ(config.discard_sector_alignment, 8u);
  EXPECT_EQ(config.write_zeroes_may_unmap, 1u);
  EXPECT_EQ(test.block.device->queue_sizes(), std::vector<uint16_t>(3, 256));
}

TEST(VirtioBlockConfiguration, ReadsBehindTheEndAreZeroAndWritesIgnored) {
  FaultBlockDevice test;
  const VirtioBlockConfig before = ReadConfigOf(*test.block.device);
  for (const uint64_t offset :
       {uint64_t{0}, uint64_t{32}, uint64_t{70}, uint64_t{72}, uint64_t{4096}, UINT64_MAX - 1}) {
    std::array<uint8_t, 8> bytes;
    bytes.fill(0xff);
    test.block.device->WriteConfig(offset, bytes);
    test.block.device->ReadConfig(offset, bytes);
    if (offset >= sizeof(VirtioBlockConfig)) {
      EXPECT_EQ(bytes, (std::array<uint8_t, 8>{})) << offset;
    }
  }
  const VirtioBlockConfig after = ReadConfigOf(*test.block.device);
  EXPECT_EQ(std::memcmp(&before, &after, sizeof(before)), 0);
}

TEST(VirtioBlockConfiguration, ReadOnlyDiskOffersNoChanges) {
  const TestImage image;
  const std::unique_ptr<GuestMemory> memory = MakeTestMemory();
  TestBlockDevice block(image, std::make_unique<FaultEngine>(), *memory, {.name = "disk0"}, true);
  EXPECT_NE(block.device->device_features() & kVirtioBlockReadOnly, 0u);
  EXPECT_EQ(block.device->device_features() & (kVirtioBlockDiscard | kVirtioBlockWriteZeroes), 0u);
  EXPECT_EQ(ReadConfigOf(*block.device).max_discard_sectors, 0u);
}

TEST(VirtioBlockConfiguration, RefusesOptionsOutOfRange) {
  const TestImage image;
  const auto error = [&](VirtioBlock::Options options) {
    return VirtioBlock::Create(std::move(options), image.Open(std::make_unique<FaultEngine>()))
        .error()
        .message();
  };
  EXPECT_THAT(error({.name = "disk0", .queue_count = 0}), HasSubstr("0 queues"));
  EXPECT_THAT(error({.name = "disk0", .queue_count = 17}), HasSubstr("17 queues"));
  EXPECT_THAT(error({.name = "disk0", .serial = "123456789012345678901"}), HasSubstr("serial"));
  EXPECT_THAT(error({.name = "disk0", .serial = "tab\t"}), HasSubstr("serial"));
}

// ---- requests

TEST(VirtioBlock, ReadsBackWhatItWrote) {
  FaultBlockDevice test;
  test.block.Activate();
  std::vector<uint8_t> bytes(8192);
  std::iota(bytes.begin(), bytes.end(), uint8_t{3});
  BlockDriver& driver = test.block.driver;
  EXPECT_EQ(driver.Finish(driver.Write(7, bytes)), kOk);
  const DriverRequest read = driver.Read(7, bytes.size());
  EXPECT_EQ(driver.Finish(read), kOk);
  EXPECT_EQ(driver.Data(read), bytes);
}

TEST(VirtioBlock, ReportsHowMuchItWrote) {
  FaultBlockDevice test;
  test.block.Activate();
  BlockDriver& driver = test.block.driver;
  driver.Read(0, 4096);
  EXPECT_EQ(driver.Await()->written_bytes, 4097u);
  driver.Write(0, 4096, 1);
  EXPECT_EQ(driver.Await()->written_bytes, 1u);
  test.faults->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Fail(EIO); });
  driver.Read(0, 4096);
  EXPECT_EQ(driver.Await()->written_bytes, 0u);
}

TEST(VirtioBlock, TellsItsSerialNumber) {
  FaultBlockDevice test({.name = "disk0", .serial = "orthanc"});
  test.block.Activate();
  BlockDriver& driver = test.block.driver;
  for (const uint64_t size : {uint64_t{20}, uint64_t{4}, uint64_t{64}}) {
    const DriverRequest id = driver.GetId(size);
    ASSERT_EQ(driver.Finish(id), kOk);
    std::vector<uint8_t> expected = {'o', 'r', 't', 'h', 'a', 'n', 'c'};
    expected.resize(20);
    expected.resize(size);
    EXPECT_EQ(driver.Data(id), expected) << size;
  }
}

TEST(VirtioBlock, FlushSyncsTheHost) {
  FaultBlockDevice test;
  test.block.Activate();
  EXPECT_EQ(test.block.driver.Finish(test.block.driver.Write(0, 512, 1)), kOk);
  EXPECT_EQ(test.block.driver.Finish(test.block.driver.Flush()), kOk);
  const std::vector<IoOperation> trace = test.faults->trace();
  ASSERT_EQ(trace.size(), 2u);
  EXPECT_FALSE(trace[0].durable);
  EXPECT_EQ(trace[1].kind, IoKind::kSync);
}

// 5.2.6.2: a driver that did not take FLUSH cannot ask for durability: every write has it.
TEST(VirtioBlock, WritesAreDurableWithoutTheFlushFeature) {
  FaultBlockDevice test;
  test.block.harness.Activate(
      {.features = test.block.device->device_features() & ~kVirtioBlockFlush});
  BlockDriver& driver = test.block.driver;
  EXPECT_EQ(driver.Finish(driver.Write(0, 512, 1)), kOk);
  EXPECT_EQ(driver.Finish(driver.Segment(VirtioBlockType::kDiscard, {.sector_count = 8})), kOk);
  const std::vector<IoOperation> trace = test.faults->trace();
  ASSERT_EQ(trace.size(), 3u);
  EXPECT_TRUE(trace[0].durable);
  EXPECT_EQ(trace[1].kind, IoKind::kPunchHole);
  EXPECT_EQ(trace[2].kind, IoKind::kSync);
}

TEST(VirtioBlock, WriteZeroesAndDiscardTakeEverySegment) {
  for (const VirtioBlockType type : {VirtioBlockType::kWriteZeroes, VirtioBlockType::kDiscard}) {
    FaultBlockDevice test;
    test.block.Activate();
    BlockDriver& driver = test.block.driver;
    ASSERT_EQ(driver.Finish(driver.Write(0, 64 << 10, 0xff)), kOk);
    const std::vector<VirtioBlockSegment> segments = {{.sector = 8, .sector_count = 8},
                                                      {.sector = 32, .sector_count = 16},
                                                      {.sector = 96, .sector_count = 8}};
    ASSERT_EQ(driver.Finish(driver.Segments(type, segments)), kOk);
    std::vector<uint8_t> expected(64 << 10, 0xff);
    for (const VirtioBlockSegment& segment : segments) {
      std::fill_n(expected.begin() + static_cast<ptrdiff_t>(segment.sector * 512),
                  segment.sector_count * 512, 0);
    }
    std::vector<uint8_t> bytes = test.image.Bytes();
    bytes.resize(64 << 10);
    EXPECT_EQ(bytes, expected);
  }
}

TEST(VirtioBlock, FailedSegmentEndsTheRequest) {
  FaultBlockDevice test;
  test.block.Activate();
  test.faults->SetPolicy([](const IoOperation&, uint64_t count) {
    return count == 1 ? Fault::Fail(ENOSPC) : Fault::None();
  });
  const std::vector<VirtioBlockSegment> segments(3, {.sector = 8, .sector_count = 8});
  BlockDriver& driver = test.block.driver;
  EXPECT_EQ(driver.Finish(driver.Segments(VirtioBlockType::kWriteZeroes, segments)), kIoError);
  EXPECT_EQ(test.faults->operation_count(), 2u);
}

TEST(VirtioBlock, ReadOnlyDiskRefusesAWrite) {
  const TestImage image;
  const std::unique_ptr<GuestMemory> memory = MakeTestMemory();
  TestBlockDevice block(image, std::make_unique<FaultEngine>(), *memory, {.name = "disk0"}, true);
  block.Activate();
  EXPECT_EQ(block.driver.Finish(block.driver.Write(0, 512, 0xff)), kIoError);
  EXPECT_EQ(block.driver.Finish(block.driver.Read(0, 512)), kOk);
  EXPECT_EQ(block.driver.Finish(block.driver.Flush()), kOk);
  EXPECT_EQ(image.Bytes(), std::vector<uint8_t>(kTestDiskBytes));
}

TEST(VirtioBlock, RefusesRequestsThatBreakTheRulesAndGoesOn) {
  FaultBlockDevice test;
  test.block.Activate();
  BlockDriver& driver = test.block.driver;
  EXPECT_EQ(driver.Finish(driver.Read(kTestDiskBytes / 512, 512)), kIoError);
  EXPECT_EQ(driver.Finish(driver.Send(0, {.type = 99}, {}, false)), kUnsupported);
  EXPECT_EQ(driver.Finish(driver.Segment(VirtioBlockType::kDiscard,
                                         {.sector_count = 8, .flags = kVirtioBlockSegmentUnmap})),
            kUnsupported);
  EXPECT_EQ(test.block.device->malformed_requests(), 3u);
  EXPECT_EQ(test.faults->operation_count(), 0u);
  EXPECT_EQ(driver.Finish(driver.Read(0, 512)), kOk);
}

TEST(VirtioBlock, RequestWithoutAStatusByteNeedsAReset) {
  FaultBlockDevice test;
  test.block.Activate();
  VirtqueueDriver& raw = test.block.harness.driver(0);
  raw.Add({Readable(test.block.harness.heap().Allocate(16))});
  test.block.harness.Kick(0);
  EXPECT_TRUE(test.block.harness.transport().WaitForNeedsReset());
  EXPECT_EQ(test.block.harness.transport().reset_reasons().size(), 1u);
  ASSERT_TRUE(test.block.harness.Reset());
  test.block.Activate();
  EXPECT_EQ(test.block.driver.Finish(test.block.driver.Read(0, 512)), kOk) << "alive after a reset";
}

TEST(VirtioBlock, HeadMadeAvailableTwiceNeedsAReset) {
  FaultBlockDevice test;
  test.block.Activate();
  test.HoldAll();
  const DriverRequest request = test.block.driver.Read(0, 512);
  test.block.harness.Kick(0);
  test.AwaitHeld(1);
  test.block.harness.driver(0).PublishHead(request.head);
  test.block.harness.driver(0).KickAlways(test.block.harness.doorbell(0));
  EXPECT_TRUE(test.block.harness.transport().WaitForNeedsReset());
  test.LetGo();
}

TEST(VirtioBlock, BrokenRingNeedsAReset) {
  FaultBlockDevice test({.name = "disk0", .queue_count = 2});
  test.block.Activate();
  test.block.harness.driver(1).SetAvailableIndex(1000);
  test.block.harness.driver(1).KickAlways(test.block.harness.doorbell(1));
  EXPECT_TRUE(test.block.harness.transport().WaitForNeedsReset());
}

TEST(VirtioBlock, TakesWhatWasInTheRingBeforeItWasActivated) {
  FaultBlockDevice test;
  test.block.Activate();
  ASSERT_TRUE(test.block.harness.Reset());
  test.block.harness.Pause();  // activation finds the device unable to look at once
  test.block.Activate();
  const DriverRequest read = test.block.driver.Read(0, 512);
  test.block.harness.Resume();
  ASSERT_TRUE(test.block.harness.WaitUsed(0).has_value()) << "nobody kicked";
  EXPECT_EQ(test.block.driver.Status(read), kOk);
}

// ---- dirty pages

TEST(VirtioBlock, ReadMarksTheGuestPagesItFilled) {
  FaultBlockDevice test;
  test.block.Activate();
  DirtyBitmap& dirty = test.memory->dirty();
  const DriverRequest read = test.block.driver.Read(0, 12288);
  std::vector<uint64_t> words(dirty.word_count());
  dirty.TakeInto(words);
  ASSERT_EQ(test.block.driver.Finish(read), kOk);
  for (uint64_t at = 0; at < read.data.size_bytes; at += 512) {
    const GuestAddress address(read.data.start.raw() + at);
    EXPECT_TRUE(dirty.IsMarked(*test.memory->BlockOf(address)));
  }
  EXPECT_TRUE(dirty.IsMarked(*test.memory->BlockOf(read.status.start)));
}

TEST(VirtioBlock, WriteMarksTheDisksBlocks) {
  FaultBlockDevice test;
  test.block.Activate();
  ASSERT_EQ(test.block.driver.Finish(test.block.driver.Write(8, 4096, 1)), kOk);
  const DirtyBitmap& dirty = test.block.device->backend().dirty();
  EXPECT_TRUE(dirty.IsMarked(BlockIndex(1)));
  EXPECT_EQ(dirty.CountMarked(), 1u);
}

// ---- a host that fails: each operation in turn, each way

TEST(VirtioBlock, EachFailureOfTheHostHitsItsRequestOnly) {
  constexpr int kRequests = 8;
  for (const int error_number : {EIO, ENOSPC, ENOMEM}) {
    for (uint64_t failing = 0; failing < kRequests; ++failing) {
      FaultBlockDevice test;
      test.block.Activate();
      test.faults->SetPolicy([=](const IoOperation&, uint64_t count) {
        return count == failing ? Fault::Fail(error_number) : Fault::None();
      });
      for (int i = 0; i < kRequests; ++i) {
        const bool read = i % 2 == 1;
        const auto sector = static_cast<uint64_t>(i) * 8;
        const DriverRequest request = read ? test.block.driver.Read(sector - 8, 4096)
                                           : test.block.driver.Write(sector, 4096, 0x42);
        const bool fails = static_cast<uint64_t>(i) == failing;
        ASSERT_EQ(test.block.driver.Finish(request), fails ? kIoError : kOk);
      }
    }
  }
}

TEST(VirtioBlock, ShortTransfersOfTheHostAreCompleted) {
  for (const uint64_t bytes : {1ul, 511ul, 512ul, 4095ul, 5000ul}) {
    FaultBlockDevice test;
    test.block.Activate();
    test.faults->SetPolicy([=](const IoOperation&, uint64_t) { return Fault::Short(bytes); });
    std::vector<uint8_t> pattern(8192);
    std::iota(pattern.begin(), pattern.end(), static_cast<uint8_t>(bytes));
    BlockDriver& driver = test.block.driver;
    ASSERT_EQ(driver.Finish(driver.Write(1, pattern)), kOk);
    const DriverRequest read = driver.Read(1, pattern.size());
    ASSERT_EQ(driver.Finish(read), kOk);
    ASSERT_EQ(driver.Data(read), pattern) << bytes;
  }
}

}  // namespace
}  // namespace pacsvisor
