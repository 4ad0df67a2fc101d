// Random histories of several machines, held against arrays in memory; and what they may cost.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/vmm/store/random_history.h"
#include "vmm/store/store_writer.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::DraftOf;
using store_test::Encryption;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::RandomHistory;
using store_test::SpaceOf;

struct HistoryCase {
  uint64_t seed;
  StoreTuning tuning;
  Encryption encryption = Encryption::kNone;
};

class StoreHistoryTest : public testing::TestWithParam<HistoryCase> {};

TEST_P(StoreHistoryTest, EverySnapshotOfAnyHistoryReadsAsItWasWritten) {
  const auto files = NewStoreFiles(GetParam().encryption);
  RandomHistory history(GetParam().seed);
  auto store = OpenTuned(files, GetParam().tuning);
  for (int i = 0; i < 200; ++i) {
    ASSERT_NO_FATAL_FAILURE(history.Step(*store));
    if (i % 50 == 25) {
      store = OpenTuned(files, GetParam().tuning);
    }
  }
  store = OpenTuned(files, GetParam().tuning);
  EXPECT_EQ(store->List().value().size(), 200u);
  for (const store_test::Snapshot& snapshot : history.snapshots()) {
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, snapshot)) << snapshot.id.Hex();
  }
  ExpectWhole(*store, 200);
}

INSTANTIATE_TEST_SUITE_P(
    Tunings, StoreHistoryTest,
    testing::Values(
        HistoryCase{1, {}}, HistoryCase{2, {.pack_bytes = 20000, .most_tables = 2}},
        HistoryCase{3, {.pending_entries = 7, .most_tables = 4, .verified_chunks = 100}},
        HistoryCase{
            4, {.pack_bytes = 1, .pending_entries = 1, .most_tables = 1, .verified_chunks = 300}},
        HistoryCase{5, {.pack_bytes = 20000, .most_tables = 2}, Encryption::kKey},
        HistoryCase{
            6, {.pending_entries = 7, .most_tables = 4, .verified_chunks = 100}, Encryption::kKey},
        HistoryCase{7, {.pack_bytes = 20000, .pipeline = {.workers = 3, .batch_blocks = 2}}},
        HistoryCase{
            8, {.most_tables = 2, .pipeline = {.workers = 2, .batch_blocks = 1}}, Encryption::kKey},
        HistoryCase{9, {.pipeline = {.workers = 0, .batch_blocks = 5}}}),
    [](const auto& test) { return "Seed" + std::to_string(test.param.seed); });

// Random values beyond the model's few: each block of its own, and incompressible.
std::vector<uint8_t> NoiseBlock(uint64_t seed) { return BlockOf(3 * seed + 1); }

class StoreGrowthOrderTest : public testing::TestWithParam<bool> {};

TEST_P(StoreGrowthOrderTest, ScatteredChangesCostTheirBytesAnd64More) {
  const auto files = NewStoreFiles();
  const auto store = OpenTuned(files);
  constexpr uint64_t kBlocks = uint64_t{64} << 18;  // 64 GiB
  constexpr uint64_t kChanged = 4000;
  constexpr uint64_t kRootBytes = 8 * kKiB;  // root, state, frames: whatever has no count
  auto writer = store->Begin(std::nullopt, {SpaceOf("disk0", kBlocks)}).value();
  ASSERT_TRUE(writer->AddZeroes(0, BlockIndex(0), kBlocks).ok());
  const SnapshotInfo first = writer->Commit(DraftOf(1), {}).value();
  EXPECT_LE(first.counts.stored_bytes, kRootBytes);
  writer.reset();

  const uint64_t before = files->appended_bytes();
  writer = store->Begin(first.id, {SpaceOf("disk0", kBlocks)}).value();
  std::mt19937_64 random(1);
  std::vector<uint64_t> blocks;
  for (uint64_t i = 0; i < kChanged; ++i) {
    blocks.push_back(i * 4000 + random() % 4000);
  }
  if (GetParam()) {
    std::shuffle(blocks.begin(), blocks.end(), random);
  }
  for (const uint64_t block : blocks) {
    ASSERT_TRUE(writer->Add(0, BlockIndex(block), NoiseBlock(block)).ok());
  }
  const SnapshotInfo second = writer->Commit(DraftOf(2), {}).value();
  EXPECT_EQ(second.counts.fresh, kChanged);
  const uint64_t grown = files->appended_bytes() - before;
  EXPECT_LE(grown, kChanged * (kStoreBlockBytes + 64) + kRootBytes);
}

INSTANTIATE_TEST_SUITE_P(Orders, StoreGrowthOrderTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "Shuffled" : "Ascending"; });

TEST(StoreGrowthTest, UnchangedZeroAndKnownBlocksTakeNoRoomInPacks) {
  const auto files = NewStoreFiles();
  const auto store = OpenTuned(files);
  auto writer = store->Begin(std::nullopt, {SpaceOf("disk0", 3000)}).value();
  for (uint64_t i = 0; i < 3000; ++i) {
    ASSERT_TRUE(writer->Add(0, BlockIndex(i), NoiseBlock(i % 1000)).ok());
  }
  const SnapshotInfo first = writer->Commit(DraftOf(1), {}).value();
  writer.reset();
  EXPECT_EQ(first.counts.fresh, 1000u);
  writer = store->Begin(first.id, {SpaceOf("disk0", 3000)}).value();
  for (uint64_t i = 0; i < 3000; ++i) {
    const bool zero = i % 10 == 3;
    ASSERT_TRUE(writer->Add(0, BlockIndex(i), zero ? BlockOf(0) : NoiseBlock(i % 1000)).ok());
  }
  const SnapshotInfo second = writer->Commit(DraftOf(2), {}).value();
  EXPECT_EQ(second.counts.fresh, 0u);
  EXPECT_EQ(second.counts.unchanged, 2700u);
  EXPECT_LE(second.counts.stored_bytes, 300 * 8 + 2000u);
}

TEST(StoreGrowthTest, TheNumberOfTablesStaysBoundedAndTheirRewritingSmall) {
  // Hundreds of equal snapshots on a large first one.
  std::vector<TableRef> tables = {{.entries = 1000000}};
  uint64_t written = 0;
  for (int i = 0; i < 500; ++i) {
    const uint64_t own = 1000;
    const size_t merged = TablesToMerge(own, tables, 8);
    uint64_t entries = own;
    for (size_t t = 0; t < merged; ++t) {
      entries += tables[t].entries;
    }
    tables.erase(tables.begin(), tables.begin() + static_cast<ptrdiff_t>(merged));
    tables.insert(tables.begin(), TableRef{.entries = entries});
    written += entries;
    ASSERT_LE(tables.size(), 8u);
  }
  EXPECT_LE(written, 500u * 1000 * 5);
}

}  // namespace
}  // namespace pacsvisor
