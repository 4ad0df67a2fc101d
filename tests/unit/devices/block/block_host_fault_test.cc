// What the guest sees of an image that somebody cuts short, or that grows back, under the running
// machine; on both real engines.
#include <gtest/gtest.h>

#include <filesystem>
#include <ostream>

#include "tests/unit/devices/block/block_fixture.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

class CutImage : public testing::TestWithParam<IoEngineKind> {
 protected:
  static constexpr uint64_t kSectors = kTestDiskBytes / kSectorSizeBytes;
  static constexpr uint64_t kHalf = kSectors / 2;

  CutImage() {
    block_.Activate();
    for (uint64_t sector = 0; sector < kSectors; sector += 1024) {
      const auto fill = static_cast<uint8_t>(1 + sector / 1024);
      EXPECT_EQ(block_.driver.Finish(block_.driver.Write(sector, 1024 * 512, fill)), kOk);
    }
  }

  uint8_t Read(uint64_t sector, uint8_t* first) {
    const DriverRequest read = block_.driver.Read(sector, 4096);
    const uint8_t status = block_.driver.Finish(read);
    *first = block_.driver.Data(read)[0];
    return status;
  }
  uint8_t Write(uint64_t sector) {
    return block_.driver.Finish(block_.driver.Write(sector, 4096, 0xcc));
  }

  const TestImage image_;
  const std::unique_ptr<GuestMemory> memory_ = MakeTestMemory(64 * kMiB);
  TestBlockDevice block_{image_, CreateIoEngine(GetParam()).value(), *memory_};
};

TEST_P(CutImage, GivesErrorsBehindItsEndAndServesWhatIsThere) {
  fs::resize_file(image_.path(), kTestDiskBytes / 2);
  uint8_t byte = 0;
  EXPECT_EQ(Read(0, &byte), kOk);
  EXPECT_EQ(byte, 1);
  EXPECT_EQ(Read(kHalf - 8, &byte), kOk);
  EXPECT_EQ(Read(kHalf, &byte), kIoError);
  EXPECT_EQ(Read(kSectors - 8, &byte), kIoError);
  EXPECT_EQ(Read(kHalf - 4, &byte), kIoError) << "across the end";
  EXPECT_EQ(Write(16), kOk);
  EXPECT_EQ(block_.driver.Finish(block_.driver.Flush()), kOk);
}

// A write behind the end would make the file long again, with zeroes for the guest's data before
// it.
TEST_P(CutImage, DoesNotGrowByTheGuestsWrites) {
  fs::resize_file(image_.path(), kTestDiskBytes / 2);
  EXPECT_EQ(Write(kSectors - 8), kIoError);
  for (const VirtioBlockType type : {VirtioBlockType::kWriteZeroes, VirtioBlockType::kDiscard}) {
    EXPECT_EQ(block_.driver.Finish(
                  block_.driver.Segment(type, {.sector = kSectors - 8, .sector_count = 8})),
              kIoError);
  }
  EXPECT_EQ(fs::file_size(image_.path()), kTestDiskBytes / 2);
  uint8_t byte = 0;
  EXPECT_EQ(Read(kHalf, &byte), kIoError);
}

TEST_P(CutImage, ServesAllOfItOnceItHasItsSizeAgain) {
  fs::resize_file(image_.path(), 0);
  uint8_t byte = 0;
  EXPECT_EQ(Read(0, &byte), kIoError);
  fs::resize_file(image_.path(), kTestDiskBytes - 512);
  EXPECT_EQ(Read(kSectors - 8, &byte), kIoError);
  fs::resize_file(image_.path(), kTestDiskBytes);
  EXPECT_EQ(Read(kSectors - 8, &byte), kOk);
  EXPECT_EQ(byte, 0) << "what the operator put there";
  EXPECT_EQ(Write(kSectors - 8), kOk);
  EXPECT_EQ(Read(kSectors - 8, &byte), kOk);
  EXPECT_EQ(byte, 0xcc);
}

TEST_P(CutImage, RequestsThatWaitForARefusedOneGoOn) {
  fs::resize_file(image_.path(), kTestDiskBytes / 2);
  // Overlapping writes wait for one another; the first lies across the end.
  for (int i = 0; i < 8; ++i) {
    block_.driver.Write(kHalf - 8 - static_cast<uint64_t>(i % 2) * 8, 16 * 512,
                        static_cast<uint8_t>(i));
    block_.driver.Write(kHalf - 16, 16 * 512, static_cast<uint8_t>(i));
  }
  block_.harness.Kick(0);
  for (int i = 0; i < 16; ++i) {
    ASSERT_TRUE(block_.harness.WaitUsed(0).has_value()) << i;
  }
}

std::string EngineName(const testing::TestParamInfo<IoEngineKind>& one) {
  return one.param == IoEngineKind::kThreads ? "Threads" : "Uring";
}
INSTANTIATE_TEST_SUITE_P(Engines, CutImage,
                         testing::Values(IoEngineKind::kUring, IoEngineKind::kThreads), EngineName);

}  // namespace
}  // namespace pacsvisor
