#include "devices/block/block_request_parser.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "tests/support/virtio_driver.h"

namespace pacsvisor {
namespace {

using Action = ParsedBlockRequest::Action;

constexpr uint64_t kCapacity = 1 << 20;

class BlockRequestParserTest : public testing::Test {
 protected:
  void Readable(std::span<const uint8_t> bytes) {
    chain_.readable.push_back(heap_.Place(bytes, 1));
    chain_.readable_bytes += bytes.size();
  }
  void Header(VirtioBlockType type, uint64_t sector) {
    const VirtioBlockHeader header{.type = static_cast<uint32_t>(type), .sector = sector};
    std::array<uint8_t, sizeof(header)> bytes;
    std::memcpy(bytes.data(), &header, sizeof(header));
    Readable(bytes);
  }
  void Segment(uint64_t sector, uint32_t sectors, uint32_t flags = 0) {
    const VirtioBlockSegment segment{.sector = sector, .sector_count = sectors, .flags = flags};
    std::array<uint8_t, sizeof(segment)> bytes;
    std::memcpy(bytes.data(), &segment, sizeof(segment));
    Readable(bytes);
  }
  void Data(uint64_t size_bytes) { Readable(std::vector<uint8_t>(size_bytes)); }
  GuestRange Writable(uint64_t size_bytes) {
    chain_.writable.push_back(heap_.Allocate(size_bytes, 1));
    chain_.writable_bytes += size_bytes;
    return chain_.writable.back();
  }
  const ParsedBlockRequest& Parse() {
    ParseBlockRequest(*memory_, chain_, limits_, parsed_);
    return parsed_;
  }
  void ExpectAnswer(VirtioBlockStatus status) {
    Parse();
    EXPECT_EQ(parsed_.action, Action::kAnswer);
    EXPECT_EQ(parsed_.status, status);
    EXPECT_FALSE(parsed_.complaint.empty());
  }

  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory();
  GuestHeap heap_{*memory_, GuestAddress(kMiB), 8 * kMiB};
  DescriptorChain chain_;
  BlockRequestLimits limits_{.capacity_bytes = kCapacity, .discard = true, .write_zeroes = true};
  ParsedBlockRequest parsed_;
};

TEST_F(BlockRequestParserTest, ReadTakesAllWritableBytesButTheLast) {
  Header(VirtioBlockType::kIn, 8);
  const GuestRange data = Writable(4096);
  const GuestRange status = Writable(1);
  Parse();
  EXPECT_EQ(parsed_.action, Action::kSubmit);
  EXPECT_EQ(parsed_.operation, BlockOperation::kRead);
  EXPECT_EQ(parsed_.segments.at(0).offset_bytes, 4096u);
  EXPECT_EQ(parsed_.segments.at(0).size_bytes, 4096u);
  EXPECT_EQ(parsed_.data, std::vector{data});
  EXPECT_EQ(parsed_.status_address, status.start);
}

TEST_F(BlockRequestParserTest, StatusMayShareItsBufferWithTheData) {
  Header(VirtioBlockType::kIn, 0);
  const GuestRange all = Writable(513);
  Parse();
  EXPECT_EQ(parsed_.data, (std::vector{GuestRange{all.start, 512}}));
  EXPECT_EQ(parsed_.status_address, GuestAddress(all.start.raw() + 512));
}

TEST_F(BlockRequestParserTest, HeaderMayShareItsBufferWithTheData) {
  std::vector<uint8_t> bytes(sizeof(VirtioBlockHeader) + 1024);
  bytes[0] = 1;  // VIRTIO_BLK_T_OUT
  bytes[8] = 3;
  Readable(bytes);
  Writable(1);
  Parse();
  EXPECT_EQ(parsed_.operation, BlockOperation::kWrite);
  EXPECT_EQ(parsed_.segments.at(0).offset_bytes, 3u * 512);
  EXPECT_EQ(parsed_.data,
            (std::vector{GuestRange{GuestAddress(chain_.readable[0].start.raw() + 16), 1024}}));
}

// 2.7.4.1: whatever the cuts, the same request comes out.
TEST_F(BlockRequestParserTest, CutsBetweenBuffersMeanNothing) {
  std::mt19937 random(3);
  std::vector<uint8_t> bytes(sizeof(VirtioBlockHeader) + 2048);
  bytes[0] = 1;
  bytes[8] = 5;
  for (int round = 0; round < 500; ++round) {
    chain_ = {};
    for (size_t at = 0; at < bytes.size();) {
      const size_t part =
          std::min<size_t>(1 + random() % (random() % 2 == 0 ? 8 : 900), bytes.size() - at);
      Readable({bytes.data() + at, part});
      at += part;
    }
    Writable(1);
    Parse();
    ASSERT_EQ(parsed_.action, Action::kSubmit);
    ASSERT_EQ(parsed_.segments.at(0).offset_bytes, 5u * 512);
    ASSERT_EQ(parsed_.data_bytes, 2048u);
    uint64_t total = 0;
    for (const GuestRange& range : parsed_.data) {
      total += range.size_bytes;
    }
    ASSERT_EQ(total, 2048u);
  }
}

TEST_F(BlockRequestParserTest, WithoutHeaderOrStatusThereIsNoAnswer) {
  Data(15);
  Writable(1);
  EXPECT_EQ(Parse().action, Action::kNeedsReset);
  chain_ = {};
  Header(VirtioBlockType::kFlush, 0);
  EXPECT_EQ(Parse().action, Action::kNeedsReset);
  chain_ = {};
  EXPECT_EQ(Parse().action, Action::kNeedsReset);
}

TEST_F(BlockRequestParserTest, PartsOfSectorsAreRefused) {
  Header(VirtioBlockType::kIn, 0);
  Writable(512);  // 511 bytes of data
  ExpectAnswer(VirtioBlockStatus::kIoError);
}

TEST_F(BlockRequestParserTest, SectorsBehindTheEndAreRefused) {
  for (const uint64_t sector : {kCapacity / 512, kCapacity / 512 - 1, UINT64_MAX, UINT64_MAX / 512,
                                UINT64_MAX / 512 + 1, uint64_t{1} << 55}) {
    chain_ = {};
    Header(VirtioBlockType::kIn, sector);
    Writable(1024);
    Writable(1);
    ExpectAnswer(VirtioBlockStatus::kIoError);
  }
}

TEST_F(BlockRequestParserTest, LastSectorIsOnTheDisk) {
  Header(VirtioBlockType::kIn, kCapacity / 512 - 1);
  Writable(513);
  EXPECT_EQ(Parse().action, Action::kSubmit);
}

TEST_F(BlockRequestParserTest, EmptyReadIsDone) {
  Header(VirtioBlockType::kIn, 0);
  Writable(1);
  Parse();
  EXPECT_EQ(parsed_.action, Action::kAnswer);
  EXPECT_EQ(parsed_.status, VirtioBlockStatus::kOk);
  EXPECT_TRUE(parsed_.complaint.empty());
}

TEST_F(BlockRequestParserTest, ReadOnlyDiskRefusesChanges) {
  limits_.read_only = true;
  for (const VirtioBlockType type :
       {VirtioBlockType::kOut, VirtioBlockType::kDiscard, VirtioBlockType::kWriteZeroes}) {
    chain_ = {};
    Header(type, 0);
    Data(512);
    Writable(1);
    ExpectAnswer(VirtioBlockStatus::kIoError);
  }
}

TEST_F(BlockRequestParserTest, UnknownTypesAreUnsupported) {
  for (const uint32_t type : {2u, 3u, 5u, 10u, 12u, 14u, 0x80000000u, 0xffffffffu}) {
    chain_ = {};
    Header(static_cast<VirtioBlockType>(type), 0);
    Writable(1);
    ExpectAnswer(VirtioBlockStatus::kUnsupported);
  }
}

TEST_F(BlockRequestParserTest, WriteZeroesCarriesItsSegments) {
  Header(VirtioBlockType::kWriteZeroes, 0);
  Segment(8, 16, kVirtioBlockSegmentUnmap);
  Segment(0, 0);
  Segment(100, 1);
  Writable(1);
  Parse();
  ASSERT_EQ(parsed_.action, Action::kSubmit);
  ASSERT_EQ(parsed_.segments.size(), 2u);
  EXPECT_EQ(parsed_.segments[0].offset_bytes, 4096u);
  EXPECT_EQ(parsed_.segments[0].size_bytes, 8192u);
  EXPECT_TRUE(parsed_.segments[0].may_unmap);
  EXPECT_FALSE(parsed_.segments[1].may_unmap);
}

TEST_F(BlockRequestParserTest, DiscardWithUnmapIsUnsupported) {
  Header(VirtioBlockType::kDiscard, 0);
  Segment(8, 16, kVirtioBlockSegmentUnmap);
  Writable(1);
  ExpectAnswer(VirtioBlockStatus::kUnsupported);
}

TEST_F(BlockRequestParserTest, UnknownSegmentFlagsAreUnsupported) {
  Header(VirtioBlockType::kWriteZeroes, 0);
  Segment(8, 16, 2);
  Writable(1);
  ExpectAnswer(VirtioBlockStatus::kUnsupported);
}

TEST_F(BlockRequestParserTest, SegmentsWithoutTheFeatureAreUnsupported) {
  limits_.discard = false;
  Header(VirtioBlockType::kDiscard, 0);
  Segment(8, 16);
  Writable(1);
  ExpectAnswer(VirtioBlockStatus::kUnsupported);
}

TEST_F(BlockRequestParserTest, SegmentsMustBeWholeAndFew) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{15}, uint64_t{17},
                               uint64_t{16} * (BlockRequestLimits{}.max_segments + 1)}) {
    chain_ = {};
    Header(VirtioBlockType::kDiscard, 0);
    if (bytes > 0) {
      Data(bytes);
    }
    Writable(1);
    ExpectAnswer(VirtioBlockStatus::kIoError);
  }
}

TEST_F(BlockRequestParserTest, SegmentsStayOnTheDiskAndBelowTheirLimit) {
  limits_.max_segment_sectors = 64;
  for (const auto& [sector, sectors] :
       {std::pair<uint64_t, uint32_t>{0, 65}, {kCapacity / 512 - 1, 2}, {UINT64_MAX, 1}}) {
    chain_ = {};
    Header(VirtioBlockType::kWriteZeroes, 0);
    Segment(0, 8);
    Segment(sector, sectors);
    Writable(1);
    ExpectAnswer(VirtioBlockStatus::kIoError);
  }
}

}  // namespace
}  // namespace pacsvisor
