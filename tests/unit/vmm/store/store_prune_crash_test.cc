// A prune ends after its n-th change of the store's files, for every n; or one of its calls fails,
// for every call. Every snapshot that is still there reads as it was written, those that were to be
// kept are, and the next prune goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "tests/unit/vmm/store/store_model.h"

namespace pacsvisor {
namespace {

using store_test::Commit;
using store_test::Encryption;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NameOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::SpaceOf;
using store_test::TryOpen;
using testing::IsEmpty;
using Cut = MemoryStoreFiles::Cut;

// Small packs, so that some are dead, some mostly dead, and moving takes several steps.
StoreTuning PruneTuning() { return {.pack_bytes = 16000, .pending_entries = 6, .most_tables = 1}; }

const PruneRequest kSweptRequest{.keep = {.last = 2}};

// Snapshots 0 … 4; 1 is held, so that 0 and 2 go.
struct PrunedStore {
  explicit PrunedStore(Encryption encryption) : files(NewStoreFiles(encryption)) {
    const auto store = OpenTuned(files, PruneTuning());
    for (uint64_t number = 0; number < 5; ++number) {
      store_test::Snapshot next;
      next.spaces = {SpaceOf("memory", 14), SpaceOf("disk0", 7)};
      next.values = number == 0 ? std::vector<store_test::Values>{store_test::Values(14),
                                                                  store_test::Values(7)}
                                : snapshots.back().values;
      for (store_test::Values& values : next.values) {
        for (uint64_t block = 0; block < values.size(); ++block) {
          if (number == 0 || block % 5 != 0) {
            values[block] = 1 + 100 * number + 20 * values.size() + block;
          }
        }
      }
      next.state = {static_cast<uint8_t>(number), 7};
      EXPECT_TRUE(
          Commit(*store, snapshots.empty() ? nullptr : &snapshots.back(), next, number + 1).ok());
      snapshots.push_back(next);
    }
    EXPECT_TRUE(store->AddHold(snapshots[1].id, 0, "it is held").ok());
  }

  Status Run(const std::shared_ptr<MemoryStoreFiles>& on) {
    Result<std::unique_ptr<Store>> store = TryOpen(on, PruneTuning());
    if (!store.ok()) {
      return store.error();
    }
    const PruneReport report = TRY((*store)->Prune(kSweptRequest));
    moved_bytes = report.moved_bytes;
    return {};
  }

  static std::set<SnapshotId> IdsIn(Store& store) {
    std::set<SnapshotId> ids;
    const std::vector<SnapshotInfo> infos = store.List().value();
    for (const SnapshotInfo& info : infos) {
      ids.insert(info.id);
    }
    return ids;
  }

  void ExpectKept(Store& store) {
    const std::set<SnapshotId> ids = IdsIn(store);
    for (size_t i = 0; i < snapshots.size(); ++i) {
      ASSERT_TRUE(i == 0 || i == 2 || ids.contains(snapshots[i].id)) << "snapshot " << i;
      if (ids.contains(snapshots[i].id)) {
        ASSERT_NO_FATAL_FAILURE(ExpectReads(store, snapshots[i])) << "snapshot " << i;
      }
    }
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(store, ids.size()));
  }

  void Check(const std::shared_ptr<MemoryStoreFiles>& left, bool pruned) {
    const auto store = OpenTuned(left, PruneTuning());
    ASSERT_NO_FATAL_FAILURE(ExpectKept(*store));
    if (pruned) {
      ASSERT_EQ(IdsIn(*store).size(), 3u);
    }
    // A writer may come before the next prune.
    store_test::Snapshot more = snapshots[4];
    std::reverse(more.values[0].begin(), more.values[0].end());
    more.values[1][0] = 5000;
    const auto copy = left->After(Cut::kKilled);
    const auto written = OpenTuned(copy, PruneTuning());
    const Status committed = Commit(*written, &snapshots[4], more, 9);
    ASSERT_TRUE(committed.ok()) << MessageOf(committed);
    ASSERT_NO_FATAL_FAILURE(ExpectKept(*written));
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*written, more));

    const Result<PruneReport> again = store->Prune(kSweptRequest);
    ASSERT_TRUE(again.ok()) << MessageOf(again);
    ASSERT_EQ(IdsIn(*store), (std::set{snapshots[1].id, snapshots[3].id, snapshots[4].id}));
    ASSERT_NO_FATAL_FAILURE(ExpectKept(*store));
    // Nothing is left for a third one, nor was too much done: all of it is named by a snapshot.
    ASSERT_EQ(store->Prune(kSweptRequest).value().freed_bytes, 0u);
    ASSERT_EQ(BytesOf(*left), least_bytes);
    ASSERT_THAT(left->List("tmp").value(), IsEmpty());
  }

  static uint64_t BytesOf(const MemoryStoreFiles& files) {
    uint64_t bytes = 0;
    for (const std::string& path : files.Paths()) {
      bytes += path == "floor" ? 0 : files.Bytes(path).size();
    }
    return bytes;
  }

  std::shared_ptr<MemoryStoreFiles> files;
  std::vector<store_test::Snapshot> snapshots;
  uint64_t moved_bytes = 0;
  uint64_t least_bytes = 0;  // of the store when it is pruned without an interruption
};

class StorePruneCrashTest : public testing::TestWithParam<std::tuple<Cut, Encryption>> {
 protected:
  static Cut cut() { return std::get<0>(GetParam()); }
  static Encryption encryption() { return std::get<1>(GetParam()); }
};

TEST_P(StorePruneCrashTest, WhereverItEndsWhatWasToBeKeptIsThereAndTheNextOneGoesOn) {
  PrunedStore swept(encryption());
  const auto whole = swept.files->After(Cut::kKilled);
  ASSERT_TRUE(swept.Run(whole).ok());
  ASSERT_GT(swept.moved_bytes, 0u);
  swept.least_bytes = PrunedStore::BytesOf(*whole);
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = swept.files->After(Cut::kKilled);
    files->EndAfter(n);
    const bool pruned = swept.Run(files).ok();
    const uint64_t seeds = cut() == Cut::kTorn ? 6 : 1;
    for (uint64_t seed = 0; seed < seeds; ++seed) {
      ASSERT_NO_FATAL_FAILURE(swept.Check(files->After(cut(), n * 100 + seed), pruned));
    }
    if (!files->ended()) {
      ASSERT_TRUE(pruned);
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, StorePruneCrashTest,
                         testing::Combine(testing::Values(Cut::kKilled, Cut::kUnsynced, Cut::kTorn),
                                          testing::Values(Encryption::kNone, Encryption::kKey)),
                         [](const auto& test) {
                           return NameOf(std::get<0>(test.param)) + NameOf(std::get<1>(test.param));
                         });

class StorePruneFaultTest : public testing::TestWithParam<std::tuple<int, Encryption>> {
 protected:
  static int failure() { return std::get<0>(GetParam()); }
  static Encryption encryption() { return std::get<1>(GetParam()); }
};

TEST_P(StorePruneFaultTest, AFailedCallLosesNothingAndTheNextPruneGoesOn) {
  PrunedStore swept(encryption());
  const auto whole = swept.files->After(Cut::kKilled);
  ASSERT_TRUE(swept.Run(whole).ok());
  swept.least_bytes = PrunedStore::BytesOf(*whole);
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("call " + std::to_string(n) + " failed");
    const auto files = swept.files->After(Cut::kKilled);
    files->FailAfter(n, failure());
    const Status run = swept.Run(files);
    if (!files->failed()) {
      ASSERT_TRUE(run.ok()) << MessageOf(run);
      break;
    }
    ASSERT_NO_FATAL_FAILURE(swept.Check(files->After(Cut::kKilled), run.ok()));
    ASSERT_NO_FATAL_FAILURE(swept.Check(files->After(Cut::kTorn, n), run.ok()));
  }
}

INSTANTIATE_TEST_SUITE_P(Errors, StorePruneFaultTest,
                         testing::Values(std::tuple(ENOSPC, Encryption::kNone),
                                         std::tuple(EIO, Encryption::kNone),
                                         std::tuple(EIO, Encryption::kKey)),
                         [](const auto& test) {
                           return (std::get<0>(test.param) == EIO ? "Eio" : "Enospc") +
                                  NameOf(std::get<1>(test.param));
                         });

// The same for a hold: it is there or it is not, and never half.
TEST_P(StorePruneCrashTest, AHoldThatWasReportedHolds) {
  PrunedStore swept(encryption());
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = swept.files->After(Cut::kKilled);
    files->EndAfter(n);
    const auto opened = TryOpen(files, PruneTuning());
    const bool held = opened.ok() && (*opened)->AddHold(swept.snapshots[0].id, 0, "an audit").ok();
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const auto left = files->After(cut(), n * 10 + seed);
      const auto store = OpenTuned(left, PruneTuning());
      ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, 5));
      ASSERT_TRUE(store->Prune(kSweptRequest).ok());
      if (held) {
        ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, swept.snapshots[0]));
      }
    }
    if (!files->ended()) {
      ASSERT_TRUE(held);
      break;
    }
  }
}

}  // namespace
}  // namespace pacsvisor
