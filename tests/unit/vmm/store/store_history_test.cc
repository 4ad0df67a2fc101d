// Random histories of several machines, held against arrays in memory; and what they may cost.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/vmm/store/store_model.h"
#include "vmm/store/store_writer.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::DraftOf;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::SpaceOf;
using store_test::Values;

// Writes snapshots whose blocks are given in every way that there is, and remembers them.
class RandomHistory {
 public:
  explicit RandomHistory(uint64_t seed) : random_(seed) {}

  // A child of a random earlier snapshot, most often of the last one; or a new machine's first.
  void Step(Store& store) {
    const bool first = snapshots_.empty() || Chance(40);
    const store_test::Snapshot* parent = nullptr;
    if (!first) {
      parent = Chance(5) ? &snapshots_[Below(snapshots_.size())] : &snapshots_.back();
    }
    store_test::Snapshot next;
    if (parent != nullptr) {
      next = *parent;
    }
    ChangeSpaces(next);
    next.state.assign(Below(3) * 1000, static_cast<uint8_t>(Below(256)));
    std::vector<StoredSpace> spaces = next.spaces;
    auto writer = store.Begin(parent == nullptr ? std::nullopt : std::optional(parent->id), spaces);
    ASSERT_TRUE(writer.ok()) << MessageOf(writer);
    for (uint32_t space = 0; space < next.spaces.size(); ++space) {
      bool inherited = false;
      for (size_t i = 0; parent != nullptr && i < parent->spaces.size(); ++i) {
        inherited = inherited || parent->spaces[i] == next.spaces[space];
      }
      Write(**writer, space, next.values[space], !inherited);
    }
    const Result<SnapshotInfo> info = (*writer)->Commit(DraftOf(snapshots_.size() + 1), next.state);
    ASSERT_TRUE(info.ok()) << MessageOf(info);
    next.id = info->id;
    snapshots_.push_back(std::move(next));
  }

  const std::vector<store_test::Snapshot>& snapshots() const { return snapshots_; }

 private:
  uint64_t Below(uint64_t limit) { return random_() % limit; }
  bool Chance(uint64_t one_in) { return Below(one_in) == 0; }

  // Of a few thousand values, so that blocks of equal contents meet.
  uint64_t Value() { return Chance(4) ? 0 : 1 + Below(3000); }

  void ChangeSpaces(store_test::Snapshot& next) {
    if (next.spaces.empty()) {
      next.spaces = {SpaceOf("memory", 60), SpaceOf("disk0", 40)};
      next.values = {Values(60), Values(40)};
    }
    if (Chance(15)) {  // grown or shrunk
      const size_t space = Below(next.spaces.size());
      const uint64_t blocks = 1 + Below(80);
      next.spaces[space] = SpaceOf(next.spaces[space].name, blocks);
      next.values[space].resize(blocks);
    }
    if (Chance(15) && next.spaces.size() < 4) {
      next.spaces.insert(next.spaces.begin(), SpaceOf("disk" + std::to_string(++disks_), 20));
      next.values.insert(next.values.begin(), Values(20));
    }
    if (Chance(15) && next.spaces.size() > 1) {
      next.spaces.pop_back();
      next.values.pop_back();
    }
  }

  void Write(SnapshotWriter& writer, uint32_t space, Values& values, bool whole) {
    std::vector<bool> given(values.size(), !whole);
    const auto give = [&](uint64_t block, uint64_t value) {
      values[block] = value;
      given[block] = true;
      const Status added = writer.Add(space, BlockIndex(block), BlockOf(value));
      ASSERT_TRUE(added.ok()) << MessageOf(added);
    };
    const uint64_t steps = Below(25);
    for (uint64_t i = 0; i < steps; ++i) {
      const uint64_t block = Below(values.size());
      if (Chance(6)) {
        const uint64_t count = 1 + Below(values.size() - block);
        const Status added = writer.AddZeroes(space, BlockIndex(block), count);
        ASSERT_TRUE(added.ok()) << MessageOf(added);
        for (uint64_t at = block; at < block + count; ++at) {
          values[at] = 0;
          given[at] = true;
        }
      } else if (Chance(5)) {
        give(block, Value());
        give(block, Value());
      } else if (Chance(5)) {
        const uint64_t before = values[block];
        give(block, Value());
        give(block, before);  // back again
      } else {
        give(block, Chance(5) ? values[block] : Value());
      }
    }
    for (uint64_t block = 0; block < values.size(); ++block) {
      if (!given[block]) {
        give(block, Value());
      }
    }
  }

  std::mt19937_64 random_;
  std::vector<store_test::Snapshot> snapshots_;
  int disks_ = 0;
};

struct HistoryCase {
  uint64_t seed;
  StoreTuning tuning;
};

class StoreHistoryTest : public testing::TestWithParam<HistoryCase> {};

TEST_P(StoreHistoryTest, EverySnapshotOfAnyHistoryReadsAsItWasWritten) {
  const auto files = NewStoreFiles();
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
            4, {.pack_bytes = 1, .pending_entries = 1, .most_tables = 1, .verified_chunks = 300}}),
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
