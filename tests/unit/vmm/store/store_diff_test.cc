// What two snapshots differ in, held against a compare of their blocks.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/vmm/store/random_history.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::Commit;
using store_test::DraftOf;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::RandomHistory;
using store_test::Snapshot;
using store_test::SpaceOf;
using store_test::Values;

const Values* ValuesOf(const Snapshot& snapshot, const std::string& name) {
  for (size_t i = 0; i < snapshot.spaces.size(); ++i) {
    if (snapshot.spaces[i].name == name) {
      return &snapshot.values[i];
    }
  }
  return nullptr;
}

// Block by block.
SpaceDiff Compare(const Values& before, const Values& after) {
  SpaceDiff diff;
  bool in_run = false;
  for (size_t i = 0; i < std::max(before.size(), after.size()); ++i) {
    if (i >= after.size()) {
      diff.removed_blocks += before[i] != 0;
    } else if (i >= before.size()) {
      diff.added_blocks += after[i] != 0;
    } else {
      const bool differs = before[i] != after[i];
      diff.changed_blocks += differs;
      diff.zeroed_blocks += differs && after[i] == 0;
      diff.runs += differs && !in_run;
      in_run = differs;
    }
  }
  return diff;
}

void ExpectDiff(Store& store, const Snapshot& before, const Snapshot& after) {
  const Result<SnapshotDiff> diff = store.Diff(before.id, after.id);
  ASSERT_TRUE(diff.ok()) << MessageOf(diff);
  EXPECT_EQ(diff->before.id, before.id);
  EXPECT_EQ(diff->after.id, after.id);
  EXPECT_EQ(diff->same_state, before.state == after.state);
  size_t spaces = 0;
  for (const SpaceDiff& found : diff->spaces) {
    const Values* const old_values = ValuesOf(before, found.name);
    const Values* const new_values = ValuesOf(after, found.name);
    ASSERT_EQ(found.before.has_value(), old_values != nullptr) << found.name;
    ASSERT_EQ(found.after.has_value(), new_values != nullptr) << found.name;
    const SpaceDiff wanted = Compare(old_values == nullptr ? Values() : *old_values,
                                     new_values == nullptr ? Values() : *new_values);
    EXPECT_EQ(found.changed_blocks, wanted.changed_blocks) << found.name;
    EXPECT_EQ(found.zeroed_blocks, wanted.zeroed_blocks) << found.name;
    EXPECT_EQ(found.runs, wanted.runs) << found.name;
    EXPECT_EQ(found.removed_blocks, wanted.removed_blocks) << found.name;
    EXPECT_EQ(found.added_blocks, wanted.added_blocks) << found.name;
    spaces += (old_values != nullptr) + (new_values != nullptr);
  }
  EXPECT_EQ(spaces, before.spaces.size() + after.spaces.size());
}

class StoreDiffHistoryTest : public testing::TestWithParam<StoreTuning> {};

TEST_P(StoreDiffHistoryTest, AnyTwoSnapshotsOfAnyHistoryDifferInWhatTheirBlocksDo) {
  const auto store = OpenTuned(NewStoreFiles(), GetParam());
  RandomHistory history(71);
  for (int i = 0; i < 120; ++i) {
    ASSERT_NO_FATAL_FAILURE(history.Step(*store));
  }
  const std::vector<Snapshot>& snapshots = history.snapshots();
  std::mt19937_64 random(72);
  for (size_t i = 0; i < snapshots.size(); ++i) {
    SCOPED_TRACE("snapshot " + std::to_string(i));
    ASSERT_NO_FATAL_FAILURE(ExpectDiff(*store, snapshots[i], snapshots[i]));
    if (i > 0) {
      ASSERT_NO_FATAL_FAILURE(ExpectDiff(*store, snapshots[i - 1], snapshots[i]));
    }
    for (int pair = 0; pair < 10; ++pair) {  // siblings, ancestors, other machines
      const Snapshot& other = snapshots[random() % snapshots.size()];
      ASSERT_NO_FATAL_FAILURE(ExpectDiff(*store, snapshots[i], other));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tunings, StoreDiffHistoryTest,
                         testing::Values(StoreTuning{}, StoreTuning{.most_tables = 1},
                                         StoreTuning{.most_tables = 3}),
                         [](const auto& test) {
                           return "Tables" + std::to_string(test.param.most_tables);
                         });

TEST(StoreDiffTest, NoPackIsOpened) {
  const auto files = NewStoreFiles();
  Snapshot first{.spaces = {SpaceOf("memory", 5)}, .values = {{1, 2, 3, 0, 5}}};
  Snapshot second{.spaces = {SpaceOf("memory", 5)}, .values = {{1, 4, 0, 0, 5}}};
  {
    const auto store = OpenTuned(files);
    ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
    ASSERT_TRUE(Commit(*store, &first, second, 2).ok());
  }
  for (const std::string& path : files->Paths()) {
    if (path.starts_with("packs/")) {
      ASSERT_TRUE(files->Remove(path).ok());
    }
  }
  ExpectDiff(*OpenTuned(files), first, second);
}

TEST(StoreDiffTest, WhatBothStandOnIsNotRead) {
  constexpr uint64_t kBlocks = 3000;
  const auto files = NewStoreFiles();
  Snapshot first{.spaces = {SpaceOf("disk0", kBlocks)}, .values = {Values(kBlocks)}};
  for (uint64_t i = 0; i < kBlocks; ++i) {
    first.values[0][i] = 3 * (i % 500 + 1);
  }
  const auto store = OpenTuned(files);
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  const std::string table = [&] {
    std::string largest;
    for (const std::string& path : files->Paths()) {
      if (path.starts_with("objects/") &&
          (largest.empty() || files->Bytes(path).size() > files->Bytes(largest).size())) {
        largest = path;
      }
    }
    return largest;
  }();
  Snapshot second = first;
  second.values[0][10] = 3001;
  ASSERT_TRUE(Commit(*store, &first, second, 2).ok());
  files->FlipBit(table, files->Bytes(table).size() * 3 / 4, 1);  // a page of later blocks
  const auto again = OpenTuned(files);
  ExpectDiff(*again, first, second);
  std::vector<uint8_t> bytes(kBlocks * kStoreBlockBytes);
  EXPECT_FALSE(again->OpenSnapshot(second.id).value()->Read(0, BlockIndex(0), bytes).ok());
}

TEST(StoreDiffTest, ASnapshotThatIsNotThereAndADamagedTableAreErrors) {
  const auto files = NewStoreFiles();
  const auto store = OpenTuned(files);
  Snapshot first{.spaces = {SpaceOf("memory", 5)}, .values = {{1, 2, 3, 0, 5}}};
  Snapshot second{.spaces = {SpaceOf("memory", 5)}, .values = {{1, 4, 0, 0, 5}}};
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  EXPECT_EQ(store->Diff(first.id, SnapshotId()).error().code(), ErrorCode::kNotFound);
  ASSERT_TRUE(Commit(*store, &first, second, 2).ok());
  for (const std::string& path : files->Paths()) {
    if (path.starts_with("objects/")) {
      files->FlipBit(path, 9, 1);
    }
  }
  EXPECT_EQ(OpenTuned(files)->Diff(first.id, second.id).error().code(), ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace pacsvisor
