#include "vmm/disk/layer_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t kLogBlocks = 100'000;  // several chunks of the map
constexpr uint64_t kLogId = 0x1234;

LayerLogSource SourceOf(const Bytes& bytes) {
  return {.name = "map",
          .size_bytes = bytes.size(),
          .read = [&bytes](uint64_t offset, std::span<uint8_t> into) {
            CHECK(offset + into.size() <= bytes.size());
            std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), into.size(), into.begin());
            return Status();
          }};
}

void Append(Bytes& log, const Bytes& batch) { log.insert(log.end(), batch.begin(), batch.end()); }

Bytes HeaderBytes() {
  return EncodeLogHeader({.disk_bytes = kLogBlocks * 4096, .base_identity = 7, .log_id = kLogId});
}

// A batch of 100 changes takes four sectors.
std::vector<PlaceChange> ManyChanges(uint8_t layer) {
  std::vector<PlaceChange> changes;
  for (uint64_t i = 0; i < 100; ++i) {
    changes.push_back({i * 900 + layer, 1 + i % 3, BlockPlace::Data(layer)});
  }
  return changes;
}

Result<LayerLogEnd> Replay(const Bytes& log, BlockMap& map) {
  const LayerLogHeader header = TRY(ReadLogHeader(SourceOf(log)));
  return ReplayLog(SourceOf(log), header, map);
}

TEST(LayerLogTest, LastWordOnABlockCounts) {
  Bytes log = HeaderBytes();
  const BlockPlace zeroes = BlockPlace::In(2, BlockPlace::Kind::kZeroes);
  const std::vector<PlaceChange> first = {{0, 10, BlockPlace::Data(1)},
                                          {kLogBlocks - 1, 1, BlockPlace::Data(1)}};
  const std::vector<PlaceChange> second = {{2, 3, zeroes}, {3, 1, BlockPlace::Base()}};
  Append(log, EncodeLogBatch(kLogId, 1, first));
  Append(log, EncodeLogBatch(kLogId, 2, second));
  BlockMap map(kLogBlocks);
  const LayerLogEnd end = Replay(log, map).value();
  EXPECT_EQ(end.next_sequence, 3u);
  EXPECT_EQ(end.end_bytes, log.size());
  EXPECT_EQ(map.Get(1), BlockPlace::Data(1));
  EXPECT_EQ(map.Get(2), zeroes);
  EXPECT_EQ(map.Get(3), BlockPlace::Base());
  EXPECT_EQ(map.Get(kLogBlocks - 1), BlockPlace::Data(1));
  EXPECT_EQ(map.layered_count(), 10u);
}

// The last batch reached the disk in any part: it counts whole or not at all.
TEST(LayerLogTest, TornBatchIsLeftOutWhicheverSectorsLanded) {
  Bytes log = HeaderBytes();
  Append(log, EncodeLogBatch(kLogId, 1, ManyChanges(1)));
  const size_t whole = log.size();
  const Bytes batch = EncodeLogBatch(kLogId, 2, ManyChanges(2));
  const size_t sectors = batch.size() / kLogSectorBytes;
  ASSERT_EQ(sectors, 4u);
  for (unsigned landed = 0; landed < 1u << sectors; ++landed) {
    Bytes torn = log;
    Append(torn, Bytes(batch.size()));
    for (size_t sector = 0; sector < sectors; ++sector) {
      if ((landed >> sector & 1) != 0) {
        const auto at = static_cast<ptrdiff_t>(sector * kLogSectorBytes);
        std::copy_n(batch.begin() + at, kLogSectorBytes,
                    torn.begin() + static_cast<ptrdiff_t>(whole) + at);
      }
    }
    BlockMap map(kLogBlocks);
    const LayerLogEnd end = Replay(torn, map).value();
    const bool all = landed == (1u << sectors) - 1;
    EXPECT_EQ(end.next_sequence, all ? 3u : 2u) << landed;
    EXPECT_EQ(map.Get(2).layer(), all ? 2 : 0) << landed;
  }
}

TEST(LayerLogTest, LogCutShortAnywhereIsReadUpToThere) {
  Bytes log = HeaderBytes();
  Append(log, EncodeLogBatch(kLogId, 1, ManyChanges(1)));
  Append(log, EncodeLogBatch(kLogId, 2, ManyChanges(2)));
  for (size_t size = kLogSectorBytes; size <= log.size(); size += 100) {
    const Bytes cut(log.begin(), log.begin() + static_cast<ptrdiff_t>(size));
    BlockMap map(kLogBlocks);
    const LayerLogEnd end = Replay(cut, map).value();
    EXPECT_EQ(end.next_sequence, 1 + (size - kLogSectorBytes) / (4 * kLogSectorBytes));
  }
}

TEST(LayerLogTest, AnyFlippedBitBeforeTheLastBatchIsFound) {
  Bytes log = HeaderBytes();
  Append(log, EncodeLogBatch(kLogId, 1, ManyChanges(1)));
  Append(log, EncodeLogBatch(kLogId, 2, ManyChanges(2)));
  for (size_t at = 0; at < 5 * kLogSectorBytes; ++at) {
    Bytes damaged = log;
    damaged[at] ^= static_cast<uint8_t>(1u << at % 8);
    BlockMap map(kLogBlocks);
    const Result<LayerLogEnd> end = Replay(damaged, map);
    ASSERT_FALSE(end.ok()) << at;
    EXPECT_EQ(end.error().code(), ErrorCode::kCorrupt) << at;
  }
}

TEST(LayerLogTest, BatchOfAFormerLogIsNotTakenForOneOfThis) {
  Bytes log = HeaderBytes();
  Append(log, EncodeLogBatch(kLogId + 1, 1, ManyChanges(1)));
  BlockMap map(kLogBlocks);
  EXPECT_EQ(Replay(log, map).value().next_sequence, 1u);
  EXPECT_EQ(map.layered_count(), 0u);
}

TEST(LayerLogTest, BlocksOutsideTheDiskAreRefused) {
  for (const PlaceChange& change :
       std::vector<PlaceChange>{{kLogBlocks, 1, BlockPlace::Data(1)},
                                {kLogBlocks - 1, 2, BlockPlace::Data(1)},
                                {~uint64_t{0}, 2, BlockPlace::Data(1)},
                                {0, 0, BlockPlace::Data(1)},
                                {0, 1, BlockPlace::Data(kMaxLayers + 1)},
                                {0, 1, BlockPlace::In(0, BlockPlace::Kind::kZeroes)}}) {
    Bytes log = HeaderBytes();
    Append(log, EncodeLogBatch(kLogId, 1, std::span(&change, 1)));
    BlockMap map(kLogBlocks);
    const Result<LayerLogEnd> end = Replay(log, map);
    ASSERT_FALSE(end.ok());
    EXPECT_EQ(end.error().code(), ErrorCode::kCorrupt);
    EXPECT_EQ(map.layered_count(), 0u);
  }
}

TEST(LayerLogTest, HeaderIsChecked) {
  Bytes log = HeaderBytes();
  EXPECT_THAT(ReadLogHeader(SourceOf(Bytes(3))).error().message(), HasSubstr("too few"));
  log[8] = 2;
  EXPECT_EQ(ReadLogHeader(SourceOf(log)).error().code(), ErrorCode::kCorrupt);
}

TEST(BlockMapTest, FindsWhatIsLayeredAcrossChunks) {
  BlockMap map(kLogBlocks);
  EXPECT_EQ(map.NextLayered(0), kLogBlocks);
  for (const uint64_t block : {uint64_t{5}, uint64_t{32768}, uint64_t{32769}, kLogBlocks - 1}) {
    map.Set(block, BlockPlace::Data(3));
  }
  EXPECT_EQ(map.NextLayered(0), 5u);
  EXPECT_EQ(map.NextLayered(6), 32768u);
  EXPECT_EQ(map.Run(32768, kLogBlocks), 2u);
  EXPECT_EQ(map.NextLayered(32770), kLogBlocks - 1);
  EXPECT_EQ(map.layered_count(), 4u);
  map.Set(5, BlockPlace::Base());
  map.Set(5, BlockPlace::Base());
  EXPECT_EQ(map.layered_count(), 3u);
  EXPECT_EQ(map.NextLayered(0), 32768u);
}

}  // namespace
}  // namespace pacsvisor
