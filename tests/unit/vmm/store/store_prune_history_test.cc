// Random histories in which a prune comes now and then, held against arrays in memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "tests/unit/vmm/store/random_history.h"

namespace pacsvisor {
namespace {

using store_test::Encryption;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::RandomHistory;

struct PruneHistoryCase {
  uint64_t seed;
  StoreTuning tuning;
  Encryption encryption = Encryption::kNone;
};

class StorePruneHistoryTest : public testing::TestWithParam<PruneHistoryCase> {
 protected:
  void Prune() {
    std::vector<SnapshotInfo> infos = store_->List().value();
    const uint32_t last = 1 + static_cast<uint32_t>(random_() % 12);
    // A random one is held for ever, a random one is open.
    const SnapshotId held = infos[random_() % infos.size()].id;
    if (random_() % 2 == 0) {
      ASSERT_TRUE(store_->AddHold(held, 0, "a test").ok());
      held_.insert(held);
    }
    const SnapshotId read = infos[random_() % infos.size()].id;
    const auto reader = store_->OpenSnapshot(read).value();
    const Result<PruneReport> report = store_->Prune({.keep = {.last = last}});
    ASSERT_TRUE(report.ok()) << MessageOf(report);
    std::set<SnapshotId> expected = held_;
    expected.insert(read);
    // Instants ascend as they were taken.
    const size_t kept = std::min<size_t>(last, infos.size());
    for (size_t i = infos.size() - kept; i < infos.size(); ++i) {
      expected.insert(infos[i].id);
    }
    std::set<SnapshotId> found;
    const std::vector<SnapshotInfo> left = store_->List().value();
    for (const SnapshotInfo& info : left) {
      found.insert(info.id);
    }
    ASSERT_EQ(found, expected);
    for (const SnapshotInfo& info : infos) {
      if (!expected.contains(info.id)) {
        history_.Forget(info.id);
      }
    }
    for (const SnapshotInfo& removed : report->removed) {
      ASSERT_FALSE(expected.contains(removed.id));
    }
    if (random_() % 3 == 0 && !held_.empty()) {
      ASSERT_GE(store_->ReleaseHolds(*held_.begin()).value(), 1u);
      held_.erase(held_.begin());
    }
  }

  std::shared_ptr<MemoryStoreFiles> files_ = NewStoreFiles(GetParam().encryption);
  std::unique_ptr<Store> store_ = OpenTuned(files_, GetParam().tuning);
  RandomHistory history_{GetParam().seed};
  std::mt19937_64 random_{GetParam().seed};
  std::set<SnapshotId> held_;
};

TEST_P(StorePruneHistoryTest, EverySnapshotThatIsKeptReadsAsItWasWritten) {
  for (int i = 0; i < 200; ++i) {
    ASSERT_NO_FATAL_FAILURE(history_.Step(*store_));
    if (i % 11 == 7) {
      ASSERT_NO_FATAL_FAILURE(Prune());
      for (const store_test::Snapshot& snapshot : history_.snapshots()) {
        ASSERT_NO_FATAL_FAILURE(ExpectReads(*store_, snapshot)) << snapshot.id.Hex();
      }
      ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store_, history_.snapshots().size()));
    }
    if (i % 50 == 25) {
      store_ = OpenTuned(files_, GetParam().tuning);
    }
  }
  store_ = OpenTuned(files_, GetParam().tuning);
  for (const store_test::Snapshot& snapshot : history_.snapshots()) {
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store_, snapshot)) << snapshot.id.Hex();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Tunings, StorePruneHistoryTest,
    testing::Values(
        PruneHistoryCase{21, {}}, PruneHistoryCase{22, {.pack_bytes = 20000, .most_tables = 2}},
        PruneHistoryCase{23, {.pack_bytes = 60000, .compact_below_percent = 90}},
        PruneHistoryCase{24, {.pack_bytes = 1, .pending_entries = 1, .most_tables = 1}},
        PruneHistoryCase{25, {.pack_bytes = 60000, .compact_below_percent = 90}, Encryption::kKey},
        PruneHistoryCase{26, {.pack_bytes = 20000, .most_tables = 2}, Encryption::kKey}),
    [](const auto& test) { return "Seed" + std::to_string(test.param.seed); });

}  // namespace
}  // namespace pacsvisor
