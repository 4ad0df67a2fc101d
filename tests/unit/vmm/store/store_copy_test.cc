// Copies from store to store: the same snapshot, nothing sent twice, and nothing lost wherever it
// ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/vmm/store/random_history.h"
#include "vmm/store/pack_set.h"
#include "vmm/store/store_format.h"
#include "vmm/store/store_header.h"

namespace pacsvisor {
namespace {

using store_test::Commit;
using store_test::DamagesOf;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::Snapshot;
using store_test::SpaceOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Cut = MemoryStoreFiles::Cut;

StoreTuning CopyTuning() {
  return {.pack_bytes = 9000, .most_tables = 2, .verified_chunks = 3, .owner = ""};
}

// Two snapshots in a store, of which the second is held, and a target that has neither.
class StoreCopyTest : public testing::Test {
 protected:
  StoreCopyTest() {
    first_.spaces = {SpaceOf("memory", 8), SpaceOf("disk0", 3)};
    first_.values = {{1, 2, 4, 5, 0, 3, 10, 11}, {13, 0, 2}};
    first_.state = {1, 2, 3};
    second_ = first_;
    second_.values[0][1] = 14;
    second_.values[1][2] = 16;
    second_.state = {4, 5};
    EXPECT_TRUE(Commit(*store_, nullptr, first_, 1).ok());
    EXPECT_TRUE(Commit(*store_, &first_, second_, 2).ok());
    EXPECT_TRUE(store_->AddHold(second_.id, 0, "it is copied").ok());
    EXPECT_TRUE(store_->AddFetchHold(second_.id, "of this store alone").ok());
  }

  Result<CopyReport> CopyInto(const std::shared_ptr<MemoryStoreFiles>& target, const SnapshotId& id,
                              std::function<bool()> stopped = nullptr) {
    return store_->CopyTo(*OpenTuned(target, CopyTuning()), id, {.stopped = std::move(stopped)});
  }

  const std::shared_ptr<MemoryStoreFiles> files_ = NewStoreFiles();
  const std::unique_ptr<Store> store_ = OpenTuned(files_, CopyTuning());
  Snapshot first_;
  Snapshot second_;
};

TEST_F(StoreCopyTest, ItIsTheSameSnapshotWithItsParentAndHolds) {
  const auto target = NewStoreFiles();
  const Result<CopyReport> report = CopyInto(target, second_.id);
  ASSERT_TRUE(report.ok()) << MessageOf(report);
  EXPECT_EQ(report->info.id, second_.id);
  EXPECT_EQ(report->info.parent, first_.id);
  EXPECT_EQ(report->holds, 1u);
  EXPECT_EQ(report->known_chunks, 0u);
  const auto store = OpenTuned(target, CopyTuning());
  ExpectReads(*store, second_);
  ExpectWhole(*store, 1);
  EXPECT_EQ(store->List()->at(0).parent, first_.id);
  ASSERT_THAT(store->Holds().value(), SizeIs(1));
  EXPECT_EQ(store->Holds()->at(0).reason, "it is copied");
  EXPECT_THAT(target->List("tmp").value(), IsEmpty());
  // What is written and pruned after it leaves it alone.
  Snapshot next = second_;
  next.values[0][0] = 40;
  ASSERT_TRUE(Commit(*store, &second_, next, 3).ok());
  ASSERT_TRUE(store->Prune({.keep = {.last = 1}}).ok());
  ExpectReads(*store, second_);
  ExpectReads(*store, next);
}

TEST_F(StoreCopyTest, OnlyWhatTheTargetLacksIsSent) {
  const auto target = NewStoreFiles();
  const Result<CopyReport> first = CopyInto(target, first_.id);
  ASSERT_TRUE(first.ok()) << MessageOf(first);
  EXPECT_EQ(first->chunks, 8u);  // two blocks share one
  const uint64_t before = target->appended_bytes();
  const Result<CopyReport> second = CopyInto(target, second_.id);
  ASSERT_TRUE(second.ok()) << MessageOf(second);
  EXPECT_EQ(second->chunks - second->known_chunks, 2u);
  EXPECT_LT(target->appended_bytes() - before, 3 * kStoreBlockBytes + 6000u);
  const auto store = OpenTuned(target, CopyTuning());
  ExpectReads(*store, first_);
  ExpectReads(*store, second_);
  ExpectWhole(*store, 2);
  // Once more: only a hold that came since.
  ASSERT_TRUE(store_->AddHold(second_.id, 0, "another").ok());
  const Result<CopyReport> again = CopyInto(target, second_.id);
  ASSERT_TRUE(again.ok()) << MessageOf(again);
  EXPECT_TRUE(again->was_there);
  EXPECT_EQ(again->holds, 1u);
  EXPECT_EQ(again->sent_bytes, 0u);
  EXPECT_THAT(store->Holds().value(), SizeIs(2));
}

TEST_F(StoreCopyTest, ATableThatTheTargetHasIsNotSentNorWalked) {
  const auto target = NewStoreFiles();
  Snapshot child = first_;  // its newest table is small: the other one is the parent's
  child.values[0][0] = 50;
  const auto wide = OpenTuned(files_, {.pack_bytes = 9000, .most_tables = 8});
  ASSERT_TRUE(Commit(*wide, &first_, child, 3).ok());
  ASSERT_TRUE(CopyInto(target, first_.id).ok());
  const Result<CopyReport> report = CopyInto(target, child.id);
  ASSERT_TRUE(report.ok()) << MessageOf(report);
  EXPECT_EQ(report->chunks, 1u);
  EXPECT_EQ(report->known_chunks, 0u);
  ExpectReads(*OpenTuned(target, CopyTuning()), child);
}

TEST_F(StoreCopyTest, ATableThatTheTargetHasLostIsSentAgain) {
  const auto target = NewStoreFiles();
  ASSERT_TRUE(CopyInto(target, first_.id).ok());
  Snapshot child = first_;
  child.values[0][0] = 50;
  const auto wide = OpenTuned(files_, {.pack_bytes = 9000, .most_tables = 8});
  ASSERT_TRUE(Commit(*wide, &first_, child, 3).ok());
  for (const std::string& path : target->Paths()) {
    if (path.starts_with("objects/")) {
      ASSERT_TRUE(target->Remove(path).ok());
    }
  }
  ASSERT_TRUE(CopyInto(target, child.id).ok());
  ExpectReads(*OpenTuned(target, CopyTuning()), child);
}

TEST_F(StoreCopyTest, WhereverItIsInterruptedEveryChunkIsSentOnce) {
  const uint64_t chunks = CopyInto(NewStoreFiles(), second_.id)->chunks;
  for (int times = 0;; ++times) {
    SCOPED_TRACE("interrupted after " + std::to_string(times) + " looks");
    const auto target = NewStoreFiles();
    int left = times;
    const Result<CopyReport> cut = CopyInto(target, second_.id, [&left] { return left-- == 0; });
    if (cut.ok()) {
      EXPECT_GT(times, static_cast<int>(chunks));
      break;
    }
    ASSERT_EQ(cut.error().code(), ErrorCode::kCancelled);
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*OpenTuned(target, CopyTuning()), 0));
    EXPECT_THAT(target->List("tmp").value(), IsEmpty());
    const Result<CopyReport> resumed = CopyInto(target, second_.id);
    ASSERT_TRUE(resumed.ok()) << MessageOf(resumed);
    // It looks once for each of the two tables, and then once a chunk.
    EXPECT_EQ(resumed->known_chunks, static_cast<uint64_t>(std::max(0, times - 2)));
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*OpenTuned(target, CopyTuning()), second_));
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*OpenTuned(target, CopyTuning()), 1));
  }
}

TEST_F(StoreCopyTest, OfOneThatIsKilledThePacksThatWereFullAreNotSentAgain) {
  std::set<uint64_t> all_kept;
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = NewStoreFiles();
    files->EndAfter(n);
    const bool copied = CopyInto(files, second_.id).ok();
    if (!files->ended()) {
      ASSERT_TRUE(copied);
      break;
    }
    const auto left = files->After(Cut::kUnsynced);
    const std::vector<std::string> paths = left->Paths();
    const bool has_floor = std::find(paths.begin(), paths.end(), kFloorPath) != paths.end();
    const uint32_t floor =
        has_floor ? DecodeFloor(left->Bytes(std::string(kFloorPath))).value() : 0;
    uint64_t kept = 0;
    for (uint32_t number = 1; number <= floor; ++number) {
      kept += PackSet(*left).ReadTrailer(number)->count;
    }
    const Result<CopyReport> again = CopyInto(left, second_.id);
    ASSERT_TRUE(again.ok()) << MessageOf(again);
    EXPECT_TRUE(again->was_there || again->known_chunks == kept);
    all_kept.insert(kept);
  }
  EXPECT_GE(all_kept.size(), 4u);  // none, and one pack more at a time
}

TEST_F(StoreCopyTest, WhatArrivedOfACopyThatIsGivenUpIsPruned) {
  const auto target = NewStoreFiles();
  int looks = 5;
  ASSERT_FALSE(CopyInto(target, second_.id, [&looks] { return looks-- == 0; }).ok());
  EXPECT_THAT(target->List("packs").value(), testing::Not(IsEmpty()));
  ASSERT_TRUE(OpenTuned(target, CopyTuning())->Prune({}).ok());
  EXPECT_THAT(target->List("packs").value(), IsEmpty());
  ASSERT_TRUE(CopyInto(target, second_.id).ok());
  ExpectReads(*OpenTuned(target, CopyTuning()), second_);
}

TEST_F(StoreCopyTest, DamageIsNotCopied) {
  for (const std::string& path : files_->Paths()) {
    const bool counts = path.starts_with("packs/") || path.starts_with("objects/");
    for (uint64_t byte = 70; counts && byte < files_->Bytes(path).size(); byte += 1000) {
      SCOPED_TRACE(path + " " + std::to_string(byte));
      const auto damaged = files_->After(Cut::kKilled);
      damaged->FlipBit(path, byte, 2);
      const auto target = NewStoreFiles();
      const auto source = OpenTuned(damaged, CopyTuning());
      const auto store = OpenTuned(target, CopyTuning());
      const Result<CopyReport> report = source->CopyTo(*store, second_.id);
      if (report.ok()) {  // it was no part of this one
        ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second_));
        ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, 1));
        continue;
      }
      EXPECT_THAT(report.error().message(), HasSubstr(path));
      EXPECT_THAT(store->List().value(), IsEmpty());
      ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, 0));
    }
  }
}

TEST_F(StoreCopyTest, ATargetThatIsWrittenToAndASnapshotThatIsNotThereAreErrors) {
  const auto target = NewStoreFiles();
  const auto store = OpenTuned(target, CopyTuning());
  const auto writer = store->Begin(std::nullopt, {SpaceOf("memory", 1)});
  EXPECT_EQ(store_->CopyTo(*store, second_.id).error().code(), ErrorCode::kBusy);
  EXPECT_EQ(store_->CopyTo(*store, SnapshotId()).error().code(), ErrorCode::kNotFound);
  EXPECT_TRUE(store_->CopyTo(*store_, second_.id)->was_there);  // into itself
}

// What must hold of a target with first_ after a copy of second_ that may have failed, and a cut.
class StoreCopySweepTest : public StoreCopyTest, public testing::WithParamInterface<Cut> {
 protected:
  StoreCopySweepTest() { EXPECT_TRUE(CopyInto(target_, first_.id).ok()); }

  void Check(const std::shared_ptr<MemoryStoreFiles>& left, bool copied) {
    const auto store = OpenTuned(left, CopyTuning());
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, first_));
    const size_t count = store->List().value().size();
    ASSERT_TRUE(count == 2 || (count == 1 && !copied)) << count;
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, count));
    if (count == 2) {
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second_));
      ASSERT_THAT(store->Holds().value(), SizeIs(1));
    }
    const Result<CopyReport> again = store_->CopyTo(*store, second_.id);
    ASSERT_TRUE(again.ok()) << MessageOf(again);
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second_));
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, 2));
    ASSERT_THAT(store->Holds().value(), SizeIs(1));
    ASSERT_TRUE(store->Prune({}).ok());
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, first_));
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second_));
    ASSERT_THAT(left->List("tmp").value(), IsEmpty());
  }

  const std::shared_ptr<MemoryStoreFiles> target_ = NewStoreFiles();
};

TEST_P(StoreCopySweepTest, WhereverItEndsTheSnapshotIsThereOrNot) {
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = target_->After(Cut::kKilled);
    files->EndAfter(n);
    const auto store = OpenStore(files, CopyTuning());
    const bool copied = store.ok() && store_->CopyTo(**store, second_.id).ok();
    for (uint64_t seed = 0; seed < (GetParam() == Cut::kTorn ? 3 : 1); ++seed) {
      ASSERT_NO_FATAL_FAILURE(Check(files->After(GetParam(), n * 100 + seed), copied));
    }
    if (!files->ended()) {
      ASSERT_TRUE(copied);
      break;
    }
  }
}

TEST_P(StoreCopySweepTest, AFailedCallIsReportedAndTheNextTryWorks) {
  for (const int failure : {ENOSPC, EIO}) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE("call " + std::to_string(n) + " failed");
      const auto files = target_->After(Cut::kKilled);
      const auto store = OpenTuned(files, CopyTuning());
      files->FailAfter(n, failure);
      const Result<CopyReport> report = store_->CopyTo(*store, second_.id);
      if (!files->failed()) {
        ASSERT_TRUE(report.ok()) << MessageOf(report);
        break;
      }
      ASSERT_NO_FATAL_FAILURE(Check(files->After(GetParam(), n), report.ok()));
    }
  }
}

TEST_P(StoreCopySweepTest, AFailedCallOfTheSourceLeavesWhatArrived) {
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("call " + std::to_string(n) + " failed");
    const auto source = files_->After(Cut::kKilled);
    const auto from = OpenTuned(source, CopyTuning());
    const auto files = target_->After(Cut::kKilled);
    source->FailAfter(n, EIO);
    const Result<CopyReport> report = from->CopyTo(*OpenTuned(files, CopyTuning()), second_.id);
    if (!source->failed()) {
      break;
    }
    ASSERT_NO_FATAL_FAILURE(Check(files->After(GetParam(), n), report.ok()));
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, StoreCopySweepTest,
                         testing::Values(Cut::kKilled, Cut::kUnsynced, Cut::kTorn),
                         [](const auto& test) {
                           return test.param == Cut::kKilled     ? "Killed"
                                  : test.param == Cut::kUnsynced ? "Unsynced"
                                                                 : "Torn";
                         });

// Two stores with histories of their own, copies both ways, interrupted at times, prunes between.
TEST(StoreCopyHistoryTest, AnySnapshotReadsAsItWasWrittenInTheOtherStore) {
  for (const uint64_t seed : {41u, 42u, 43u}) {
    std::mt19937_64 random(seed);
    const StoreTuning tuning{.pack_bytes = 40'000, .most_tables = 3, .verified_chunks = 50};
    const std::unique_ptr<Store> stores[] = {OpenTuned(NewStoreFiles(), tuning),
                                             OpenTuned(NewStoreFiles(), tuning)};
    store_test::RandomHistory histories[] = {store_test::RandomHistory(seed),
                                             store_test::RandomHistory(seed + 10)};
    std::vector<Snapshot> copied[2];  // into each
    for (int i = 0; i < 60; ++i) {
      for (size_t side = 0; side < 2; ++side) {
        ASSERT_NO_FATAL_FAILURE(histories[side].Step(*stores[side]));
        const auto& snapshots = histories[side].snapshots();
        if (random() % 4 != 0) {
          continue;
        }
        const Snapshot& chosen = snapshots[random() % snapshots.size()];
        uint64_t looks = random() % 2 == 0 ? UINT64_MAX : random() % 60;
        const Result<CopyReport> report = stores[side]->CopyTo(
            *stores[1 - side], chosen.id, {.stopped = [&looks] { return looks-- == 0; }});
        ASSERT_TRUE(report.ok() || report.error().code() == ErrorCode::kCancelled)
            << MessageOf(report);
        if (report.ok()) {
          copied[1 - side].push_back(chosen);
        }
      }
      if (random() % 15 == 0) {
        ASSERT_TRUE(stores[random() % 2]->Prune({}).ok());
      }
    }
    for (size_t side = 0; side < 2; ++side) {
      EXPECT_GT(copied[side].size(), 3u);
      for (const auto* snapshots : {&histories[side].snapshots(), &std::as_const(copied[side])}) {
        for (const Snapshot& snapshot : *snapshots) {
          ASSERT_NO_FATAL_FAILURE(ExpectReads(*stores[side], snapshot)) << snapshot.id.Hex();
        }
      }
      const VerifyReport report = stores[side]->Verify({}, nullptr).value();
      EXPECT_THAT(report.damages, IsEmpty()) << DamagesOf(report);
    }
  }
}

}  // namespace
}  // namespace pacsvisor
