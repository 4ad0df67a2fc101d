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

// ---- of a disk with a source

Bytes SourceHeaderBytes(const std::string& source) {
  return EncodeLogHeader(
      {.disk_bytes = kLogBlocks * 4096, .base_identity = 7, .log_id = kLogId, .source = source});
}

TEST(LayerLogTest, WhatNoBatchSpeaksOfIsInTheSource) {
  for (const size_t name_bytes :
       {size_t{1}, size_t{503}, size_t{504}, size_t{505}, size_t{4000}, kMaxSourceNameBytes}) {
    const std::string name(name_bytes, 'x');
    Bytes log = SourceHeaderBytes(name);
    EXPECT_EQ(log.size() % kLogSectorBytes, 0u);
    const LayerLogHeader header = ReadLogHeader(SourceOf(log)).value();
    EXPECT_EQ(header.source, name);
    EXPECT_EQ(header.size_bytes(), log.size());
    const std::vector<PlaceChange> changes = {{5, 10, BlockPlace::Base()},
                                              {40'000, 2, BlockPlace::Data(3)}};
    Append(log, EncodeLogBatch(kLogId, 1, changes));
    BlockMap map(kLogBlocks);
    const LayerLogEnd end = Replay(log, map).value();
    EXPECT_EQ(end.next_sequence, 2u);
    EXPECT_EQ(end.end_bytes, log.size());
    EXPECT_EQ(map.in_source(), kLogBlocks - 12);
    EXPECT_EQ(map.in_layers(), 2u);
    EXPECT_EQ(map.Get(4), BlockPlace::Source());
    EXPECT_EQ(map.Get(5), BlockPlace::Base());
    EXPECT_EQ(map.NextInLayers(0), 40'000u);
  }
}

TEST(LayerLogTest, AnyFlippedBitOfASourcesNameIsFound) {
  const Bytes log = SourceHeaderBytes("snapshot 12 of /srv/store");
  ASSERT_EQ(log.size(), 2 * kLogSectorBytes);
  for (size_t at = 0; at < log.size(); ++at) {
    Bytes damaged = log;
    damaged[at] ^= static_cast<uint8_t>(1u << at % 8);
    const Result<LayerLogHeader> header = ReadLogHeader(SourceOf(damaged));
    ASSERT_FALSE(header.ok()) << at;
    EXPECT_EQ(header.error().code(), ErrorCode::kCorrupt) << at;
  }
  for (const size_t size : {kLogSectorBytes, kLogSectorBytes + 1, log.size() - 1}) {
    const Bytes cut(log.begin(), log.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(ReadLogHeader(SourceOf(cut)).error().code(), ErrorCode::kCorrupt);
  }
}

TEST(LayerLogTest, LogWithoutASourceIsOfTheFirstVersion) {
  EXPECT_EQ(LoadLe<uint32_t>(&HeaderBytes()[8]), 1u) << "older programs read it";
  EXPECT_EQ(LoadLe<uint32_t>(&SourceHeaderBytes("x")[8]), 2u) << "older programs refuse it";
}

TEST(BlockMapTest, AllInTheSourceUntilTheyAreSomewhereElse) {
  BlockMap map(kLogBlocks);
  map.SetAllInSource();
  EXPECT_EQ(map.in_source(), kLogBlocks);
  EXPECT_EQ(map.NextLayered(0), 0u);
  EXPECT_EQ(map.NextInLayers(0), kLogBlocks);
  EXPECT_EQ(map.Run(0, kLogBlocks), kLogBlocks);
  for (uint64_t block = 0; block < 40'000; ++block) {
    map.Set(block, BlockPlace::Base());
  }
  map.Set(70'000, BlockPlace::Data(2));
  EXPECT_EQ(map.NextLayered(0), 40'000u);
  EXPECT_EQ(map.NextInLayers(0), 70'000u);
  EXPECT_EQ(map.in_source(), kLogBlocks - 40'001);
  EXPECT_EQ(map.in_layers(), 1u);
  EXPECT_EQ(map.Get(kLogBlocks - 1), BlockPlace::Source());
  for (uint64_t block = 40'000; block < kLogBlocks; ++block) {
    map.Set(block, BlockPlace::Base());
  }
  EXPECT_EQ(map.layered_count(), 0u);
  EXPECT_EQ(map.NextLayered(0), kLogBlocks);
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
