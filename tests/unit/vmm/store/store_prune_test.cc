// Prune, holds and leases: what goes, what stays, and what is said of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>

#include "tests/support/temporary_directory.h"
#include "tests/unit/vmm/store/store_model.h"
#include "vmm/base/clock.h"
#include "vmm/store/lease.h"
#include "vmm/store/rollback_hold.h"

namespace pacsvisor {
namespace {

using store_test::Commit;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::SpaceOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint64_t kNsPerDay = 86'400'000'000'000;

uint64_t BytesOfAll(const MemoryStoreFiles& files) {
  uint64_t bytes = 0;
  for (const std::string& path : files.Paths()) {
    bytes += path == "floor" ? 0 : files.Bytes(path).size();
  }
  return bytes;
}

class StorePruneTest : public testing::Test {
 protected:
  // Four of one machine: each changes two of three blocks of the one before.
  StorePruneTest() {
    for (uint64_t number = 0; number < 4; ++number) {
      store_test::Snapshot next;
      next.spaces = {SpaceOf("disk0", 30)};
      next.values = {number == 0 ? store_test::Values(30) : snapshots_.back().values[0]};
      for (uint64_t block = 0; block < 30; ++block) {
        if (number == 0 || block % 3 != 0) {
          next.values[0][block] = 1 + 100 * number + block;
        }
      }
      next.state = {static_cast<uint8_t>(number), 1};
      const Status committed =
          Commit(*store_, snapshots_.empty() ? nullptr : &snapshots_.back(), next, number + 1);
      EXPECT_TRUE(committed.ok()) << MessageOf(committed);
      snapshots_.push_back(next);
    }
  }

  PruneReport Prune(const PruneRequest& request) {
    const Result<PruneReport> report = store_->Prune(request);
    EXPECT_TRUE(report.ok()) << MessageOf(report);
    return report.ok() ? *report : PruneReport();
  }

  std::vector<SnapshotId> Ids() {
    std::vector<SnapshotId> ids;
    const std::vector<SnapshotInfo> infos = store_->List().value();
    for (const SnapshotInfo& info : infos) {
      ids.push_back(info.id);
    }
    return ids;
  }

  const std::shared_ptr<MemoryStoreFiles> files_ = NewStoreFiles();
  std::unique_ptr<Store> store_ = OpenTuned(files_, {.most_tables = 1});  // none hides another
  std::vector<store_test::Snapshot> snapshots_;
};

TEST_F(StorePruneTest, CountsOnlyThoseWithATextWhereOneIsAsked) {
  store_test::Snapshot scheduled = snapshots_.back();
  std::vector<SnapshotId> ids = Ids();
  for (uint64_t number = 10; number < 13; ++number) {
    const store_test::Snapshot parent = scheduled;
    scheduled.values[0][1] = 5000 + number;
    scheduled.texts = {{"schedule", "1h"}};
    ASSERT_TRUE(Commit(*store_, &parent, scheduled, number).ok());
    ids.push_back(scheduled.id);
  }
  const PruneReport report = Prune({.keep = {.last = 1}, .with_text = "schedule"});
  ASSERT_THAT(report.removed, SizeIs(2));
  EXPECT_EQ(report.removed[0].id, ids[4]);
  EXPECT_EQ(report.removed[1].id, ids[5]);
  EXPECT_THAT(Ids(), ElementsAre(ids[0], ids[1], ids[2], ids[3], ids[6]));
}

TEST_F(StorePruneTest, OneThatIsCancelledLosesNothingAndIsRepeated) {
  for (int calls = 0;; ++calls) {
    int left = calls;
    const Result<PruneReport> report =
        store_->Prune({.keep = {.last = 2}, .cancelled = [&left] { return left-- <= 0; }});
    const std::vector<SnapshotInfo> infos = store_->List().value();
    for (const SnapshotInfo& info : infos) {
      const auto known =
          std::find_if(snapshots_.begin(), snapshots_.end(),
                       [&](const store_test::Snapshot& one) { return one.id == info.id; });
      ASSERT_NE(known, snapshots_.end());
      ExpectReads(*store_, *known);
    }
    if (report.ok()) {
      EXPECT_GT(calls, 4);
      EXPECT_THAT(Ids(), SizeIs(2));
      ExpectWhole(*store_, 2);
      return;
    }
    ASSERT_EQ(report.error().code(), ErrorCode::kCancelled);
  }
}

TEST_F(StorePruneTest, RemovesWhatNoRuleKeepsAndFreesWhatNobodyNeeds) {
  const uint64_t before = BytesOfAll(*files_);
  const PruneReport report = Prune({.keep = {.last = 1}});
  ASSERT_THAT(report.removed, SizeIs(3));
  EXPECT_EQ(report.removed[0].id, snapshots_[0].id);
  EXPECT_EQ(report.removed[2].id, snapshots_[2].id);
  EXPECT_EQ(report.kept, 1u);
  EXPECT_THAT(report.spared, IsEmpty());
  EXPECT_THAT(report.unfinished, IsEmpty());
  EXPECT_THAT(Ids(), ElementsAre(snapshots_[3].id));
  ExpectReads(*store_, snapshots_[3]);
  ExpectReads(*OpenTuned(files_), snapshots_[3]);
  ExpectWhole(*store_, 1);
  EXPECT_GT(report.moved_bytes, 0u);  // the first pack had a third that is needed
  EXPECT_EQ(report.freed_bytes, before - BytesOfAll(*files_));
  EXPECT_THAT(files_->List("packs").value(), SizeIs(2));
}

TEST_F(StorePruneTest, ADryRunTellsTheSameAndChangesNothing) {
  const std::vector<std::string> paths = files_->Paths();
  const PruneReport told = Prune({.keep = {.last = 2}, .dry_run = true});
  EXPECT_EQ(files_->Paths(), paths);
  EXPECT_THAT(Ids(), SizeIs(4));
  const PruneReport done = Prune({.keep = {.last = 2}});
  ASSERT_THAT(told.removed, SizeIs(2));
  EXPECT_EQ(told.removed[1].id, done.removed[1].id);
  EXPECT_EQ(told.kept, done.kept);
  EXPECT_EQ(told.freed_bytes, done.freed_bytes);
  EXPECT_EQ(told.moved_bytes, done.moved_bytes);
}

TEST_F(StorePruneTest, WithoutARuleOnlyWhatNobodyNeedsGoes) {
  const PruneReport report = Prune({});
  EXPECT_THAT(report.removed, IsEmpty());
  EXPECT_EQ(report.kept, 4u);
  for (const store_test::Snapshot& snapshot : snapshots_) {
    ExpectReads(*store_, snapshot);
  }
  EXPECT_EQ(Prune({}).freed_bytes, 0u);
}

TEST_F(StorePruneTest, OfOneMachineAlone) {
  EXPECT_THAT(Prune({.keep = {.last = 1}, .machine = "archive"}).removed, IsEmpty());
  EXPECT_THAT(Prune({.keep = {.last = 1}, .machine = "pacs"}).removed, SizeIs(3));
}

TEST_F(StorePruneTest, ASnapshotInUseStaysAndWhoUsesItIsNamed) {
  auto reader = store_->OpenSnapshot(snapshots_[1].id).value();
  const PruneReport report = Prune({.keep = {.last = 1}});
  EXPECT_THAT(report.removed, SizeIs(2));
  ASSERT_THAT(report.spared, SizeIs(1));
  EXPECT_EQ(report.spared[0].id, snapshots_[1].id);
  EXPECT_THAT(report.spared[0].why, HasSubstr("in use by pid "));
  ExpectReads(*store_, snapshots_[1]);
  ExpectReads(*store_, snapshots_[3]);
  reader.reset();
  EXPECT_THAT(Prune({.keep = {.last = 1}}).removed, SizeIs(1));
  EXPECT_THAT(Ids(), ElementsAre(snapshots_[3].id));
}

TEST_F(StorePruneTest, ADeadReadersLeaseHoldsNothing) {
  auto reader = store_->OpenSnapshot(snapshots_[1].id).value();
  const auto left = files_->After(MemoryStoreFiles::Cut::kKilled);
  ASSERT_THAT(left->List("leases").value(), SizeIs(1));
  const auto store = OpenTuned(left);
  EXPECT_THAT(store->Prune({.keep = {.last = 1}}).value().removed, SizeIs(3));
  EXPECT_THAT(left->List("leases").value(), IsEmpty());
}

TEST_F(StorePruneTest, NothingIsFreedUnderAReaderWhoseSnapshotHasGone) {
  auto reader = store_->OpenSnapshot(snapshots_[0].id).value();
  ASSERT_TRUE(files_->Remove("snapshots/" + snapshots_[0].id.Hex() + ".snapshot").ok());
  const PruneReport report = Prune({.keep = {.last = 1}});
  ASSERT_THAT(report.unfinished, SizeIs(1));
  EXPECT_THAT(report.unfinished[0], HasSubstr("is left to the next prune"));
  std::vector<uint8_t> bytes(30 * kStoreBlockBytes);
  const Status read = reader->Read(0, BlockIndex(0), bytes);
  EXPECT_TRUE(read.ok()) << MessageOf(read);
  reader.reset();
  const PruneReport next = Prune({.keep = {.last = 1}});
  EXPECT_THAT(next.unfinished, IsEmpty());
  EXPECT_GT(next.freed_bytes, 0u);
  ExpectWhole(*store_, 1);
}

TEST_F(StorePruneTest, AWriterKeepsItWaitingAndIsNamed) {
  auto writer = store_->Begin(snapshots_[3].id, snapshots_[3].spaces).value();
  const Result<PruneReport> report = store_->Prune({.keep = {.last = 1}});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(report.error().message(), HasSubstr("pid "));
  EXPECT_THAT(Ids(), SizeIs(4));
  // A dry run asks nobody.
  EXPECT_THAT(Prune({.keep = {.last = 1}, .dry_run = true}).removed, SizeIs(3));
  writer.reset();
  EXPECT_THAT(Prune({.keep = {.last = 1}}).removed, SizeIs(3));
}

TEST_F(StorePruneTest, AWritersParentMayGoBeforeItBegins) {
  Prune({.keep = {.last = 1}});
  const auto begun = store_->Begin(snapshots_[0].id, snapshots_[0].spaces);
  ASSERT_FALSE(begun.ok());
  EXPECT_EQ(begun.error().code(), ErrorCode::kNotFound);
}

// The highest pack may be of a snapshot that goes: its number must not be another pack's.
TEST_F(StorePruneTest, NumbersOfRemovedPacksAreNotGivenAgain) {
  store_test::Snapshot last;
  last.spaces = {SpaceOf("disk0", 1)};
  last.values = {{9999}};
  ASSERT_TRUE(Commit(*store_, nullptr, last, 0).ok());  // the clock went back
  ASSERT_THAT(files_->Paths(), testing::Contains("packs/00000005.pack"));
  ASSERT_EQ(Prune({.keep = {.last = 4}}).removed.size(), 1u);
  ASSERT_EQ(files_->Bytes("floor"), EncodeFloor(5));
  store_test::Snapshot next = snapshots_[3];
  next.values[0][0] = 9998;
  ASSERT_TRUE(Commit(*store_, &snapshots_[3], next, 9).ok());
  EXPECT_THAT(files_->Paths(), testing::Contains("packs/00000006.pack"));
  ExpectReads(*store_, next);
}

TEST_F(StorePruneTest, KnownChunksThatMovedAreFoundByTheNextWriter) {
  Prune({.keep = {.last = 1}});
  store_test::Snapshot next = snapshots_[3];
  std::reverse(next.values[0].begin(), next.values[0].end());
  auto writer = store_->Begin(snapshots_[3].id, next.spaces).value();
  ASSERT_TRUE(GiveChanges(*writer, &snapshots_[3], next).ok());
  const SnapshotInfo info = writer->Commit(store_test::DraftOf(9), next.state).value();
  writer.reset();
  EXPECT_EQ(info.counts.fresh, 0u);
  next.id = info.id;
  ExpectReads(*store_, next);
  EXPECT_THAT(Prune({.keep = {.last = 1}}).removed, SizeIs(1));
  ExpectReads(*store_, next);
  ExpectWhole(*store_, 1);
}

TEST_F(StorePruneTest, AnOpenReaderFindsChunksThatMoved) {
  const auto other = OpenTuned(files_);
  auto reader = other->OpenSnapshot(snapshots_[3].id).value();
  Prune({.keep = {.last = 1}});
  std::vector<uint8_t> bytes(30 * kStoreBlockBytes);
  const Status read = reader->Read(0, BlockIndex(0), bytes);
  ASSERT_TRUE(read.ok()) << MessageOf(read);
}

TEST_F(StorePruneTest, NothingGoesWhileARootCannotBeRead) {
  files_->FlipBit("snapshots/" + snapshots_[0].id.Hex() + ".snapshot", 40, 1);
  const Result<PruneReport> report = store_->Prune({.keep = {.last = 1}});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(report.error().message(), HasSubstr(snapshots_[0].id.Hex()));
  EXPECT_THAT(files_->List("snapshots").value(), SizeIs(4));
}

TEST_F(StorePruneTest, NothingGoesWhileATableThatIsNeededCannotBeRead) {
  const SnapshotRoot root =
      DecodeRoot(files_->Bytes("snapshots/" + snapshots_[3].id.Hex() + ".snapshot")).value();
  files_->FlipBit(ObjectPath(root.tables[0].name), 30, 1);
  const Result<PruneReport> report = store_->Prune({.keep = {.last = 1}});
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(files_->List("snapshots").value(), SizeIs(4));
}

TEST_F(StorePruneTest, ADamagedPackIsNotMovedAndIsNamed) {
  // Block 0 is the first chunk of the first pack, and needed by all.
  files_->FlipBit("packs/00000001.pack", 64 + 100, 1);
  const PruneReport report = Prune({.keep = {.last = 1}});
  ASSERT_THAT(report.unfinished, SizeIs(1));
  EXPECT_THAT(report.unfinished[0], HasSubstr("packs/00000001.pack"));
  EXPECT_THAT(files_->Paths(), testing::Contains("packs/00000001.pack"));
  files_->FlipBit("packs/00000001.pack", 64 + 100, 1);
  EXPECT_THAT(Prune({.keep = {.last = 1}}).unfinished, IsEmpty());
  ExpectWhole(*store_, 1);
}

TEST_F(StorePruneTest, APackWithoutAReadableDirectoryStays) {
  files_->FlipBit("packs/00000001.pack", files_->Bytes("packs/00000001.pack").size() - 1, 1);
  const PruneReport report = Prune({.keep = {.last = 1}});
  EXPECT_THAT(report.removed, SizeIs(3));
  ASSERT_THAT(report.unfinished, SizeIs(1));
  EXPECT_THAT(report.unfinished[0], HasSubstr("packs/00000001.pack"));
  ExpectReads(*store_, snapshots_[3]);  // by its places
}

TEST_F(StorePruneTest, AHeldSnapshotStaysUntilItsDayAndSaysWhy) {
  const uint64_t until_ns = RealtimeNs() + 10 * kNsPerDay;
  ASSERT_TRUE(store_->AddHold(snapshots_[0].id, until_ns, "audit 17").ok());
  ASSERT_TRUE(store_->AddHold(snapshots_[1].id, 0, "the trial's images").ok());
  const PruneReport report = Prune({.keep = {.last = 1}, .now_ns = RealtimeNs() + 9 * kNsPerDay});
  EXPECT_THAT(report.removed, SizeIs(1));
  ASSERT_THAT(report.spared, SizeIs(2));
  std::string why = report.spared[0].why + "; " + report.spared[1].why;
  EXPECT_THAT(why, HasSubstr("audit 17"));
  EXPECT_THAT(why, HasSubstr("for ever (the trial's images)"));
  const PruneReport later = Prune({.keep = {.last = 1}, .now_ns = RealtimeNs() + 11 * kNsPerDay});
  ASSERT_THAT(later.removed, SizeIs(1));
  EXPECT_EQ(later.removed[0].id, snapshots_[0].id);
  ASSERT_THAT(store_->Holds().value(), SizeIs(1));  // the other went with its snapshot
  EXPECT_EQ(store_->ReleaseHolds(snapshots_[1].id).value(), 1u);
  EXPECT_THAT(Prune({.keep = {.last = 1}}).removed, SizeIs(1));
}

TEST_F(StorePruneTest, AClockThatWasSetBackReleasesNothing) {
  const uint64_t now_ns = RealtimeNs();
  ASSERT_TRUE(store_->AddHold(snapshots_[0].id, now_ns + kNsPerDay, "audit").ok());
  // A snapshot of a time after the hold's end; then a clock between the two.
  store_test::Snapshot next = snapshots_[3];
  ASSERT_TRUE(Commit(*store_, &snapshots_[3], next, now_ns + 9 * kNsPerDay).ok());
  const PruneRequest request{.keep = {.last = 1}, .now_ns = now_ns + 5 * kNsPerDay};
  const PruneReport report = Prune(request);
  ASSERT_THAT(report.spared, SizeIs(1));
  EXPECT_THAT(report.spared[0].why, HasSubstr("the clock is behind"));
  EXPECT_THAT(Ids(), SizeIs(2));
  EXPECT_GE(store_->Now().value(), now_ns + 9 * kNsPerDay);
  EXPECT_THAT(Prune({.keep = {.last = 1}, .now_ns = now_ns + 10 * kNsPerDay}).removed, SizeIs(1));
}

TEST_F(StorePruneTest, HoldsAddUpAndAreReleasedByNameOrAll) {
  const SnapshotId id = snapshots_[2].id;
  const Hold first = store_->AddHold(id, 0, "one").value();
  ASSERT_TRUE(store_->AddHold(id, RealtimeNs() + kNsPerDay, "two").ok());
  ASSERT_TRUE(store_->AddHold(id, 0, "one").ok());  // the same again
  EXPECT_THAT(store_->Holds().value(), SizeIs(2));
  EXPECT_EQ(store_->ReleaseHolds(id, "nothing").value(), 0u);
  EXPECT_EQ(store_->ReleaseHolds(id, first.word).value(), 1u);
  ASSERT_THAT(store_->Holds().value(), SizeIs(1));
  EXPECT_EQ(store_->Holds().value()[0].reason, "two");
  EXPECT_EQ(store_->ReleaseHolds(id).value(), 1u);
  EXPECT_THAT(store_->Holds().value(), IsEmpty());
}

TEST_F(StorePruneTest, WhatIsFetchedFromStaysUntilThatIsReleasedByItsWord) {
  const SnapshotId id = snapshots_[0].id;
  const Hold one = store_->AddFetchHold(id, "disk 'a' is fetched from it").value();
  const Hold two = store_->AddFetchHold(id, "disk 'a' is fetched from it").value();
  EXPECT_NE(one.word, two.word) << "each is one disk's";
  ASSERT_TRUE(store_->AddHold(id, 0, "audit").ok());
  EXPECT_EQ(store_->ReleaseHolds(id).value(), 1u) << "the audit's";
  const PruneReport report = Prune({.keep = {.last = 1}});
  ASSERT_THAT(report.spared, SizeIs(1));
  EXPECT_THAT(report.spared[0].why, HasSubstr("disk 'a' is fetched from it"));
  EXPECT_EQ(store_->ReleaseHolds(id, one.word).value(), 1u);
  EXPECT_THAT(Prune({.keep = {.last = 1}}).removed, IsEmpty());
  EXPECT_EQ(store_->ReleaseHolds(id, two.word).value(), 1u);
  EXPECT_THAT(Prune({.keep = {.last = 1}}).removed, SizeIs(1));
}

TEST_F(StorePruneTest, HoldsThatCannotBeAreRefused) {
  const SnapshotId id = snapshots_[0].id;
  EXPECT_EQ(store_->AddHold(id, 5, "past").error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(store_->AddHold(id, 0, "").error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(store_->AddHold(id, 0, std::string(256, 'x')).error().code(),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(store_->AddHold(SnapshotId(), 0, "nobody").error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(store_->Holds().value(), IsEmpty());
}

TEST_F(StorePruneTest, WhatWasBeforeARollBackIsHeldThirtyDays) {
  ASSERT_TRUE(HoldBeforeRollback(*store_, snapshots_[1].id).ok());
  const uint64_t now_ns = RealtimeNs();
  EXPECT_THAT(Prune({.keep = {.last = 1}, .now_ns = now_ns + 29 * kNsPerDay}).removed, SizeIs(2));
  EXPECT_THAT(Prune({.keep = {.last = 1}, .now_ns = now_ns + 31 * kNsPerDay}).removed, SizeIs(1));
}

TEST_F(StorePruneTest, EveryFlippedBitOfAHoldIsFoundAndReleasesNothing) {
  const Hold hold = store_->AddHold(snapshots_[0].id, RealtimeNs() + kNsPerDay, "audit").value();
  const std::string path = HoldPath(hold.snapshot, hold.word);
  for (size_t byte = 0; byte < files_->Bytes(path).size(); ++byte) {
    SCOPED_TRACE(byte);
    const auto files = files_->After(MemoryStoreFiles::Cut::kKilled);
    files->FlipBit(path, byte, static_cast<unsigned>(byte % 8));
    const auto store = OpenTuned(files);
    const VerifyReport report = store->Verify({}, nullptr).value();
    ASSERT_THAT(report.damages, SizeIs(1));
    EXPECT_EQ(report.damages[0].file, path);
    const PruneReport pruned =
        store->Prune({.keep = {.last = 1}, .now_ns = RealtimeNs() + 9 * kNsPerDay}).value();
    ASSERT_THAT(pruned.spared, SizeIs(1));
    EXPECT_THAT(pruned.spared[0].why, HasSubstr("is damaged"));
  }
}

TEST_F(StorePruneTest, AFullDiskIsReadWithoutALease) {
  ASSERT_TRUE(files_->CreateDirectory("leases").ok());
  for (uint64_t call = 0; call < 3; ++call) {
    files_->FailAfter(call, ENOSPC);
    const auto reader = store_->OpenSnapshot(snapshots_[3].id);
    EXPECT_TRUE(files_->failed());
    EXPECT_TRUE(reader.ok()) << call << ": " << MessageOf(reader);
  }
}

TEST_F(StorePruneTest, ReadersAndAWriterMayWorkMeanwhile) {
  std::atomic<bool> done = false;
  std::atomic<uint64_t> reads = 0;
  ASSERT_TRUE(store_->AddHold(snapshots_[3].id, 0, "it is read").ok());
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&, i] {
      const auto store = i == 0 ? nullptr : OpenTuned(files_);
      Store& used = i == 0 ? *store_ : *store;
      do {
        ExpectReads(used, snapshots_[3]);
        ++reads;
      } while (!done);
    });
  }
  std::thread lister([&] {
    const auto store = OpenTuned(files_);
    while (!done) {
      const auto infos = store->List();
      EXPECT_TRUE(infos.ok()) << MessageOf(infos);
    }
  });
  std::thread pruner([&] {
    const auto store = OpenTuned(files_, {.pack_bytes = 8000, .lock_wait_ms = 60'000});
    while (!done) {
      const auto report = store->Prune({.keep = {.last = 1}});
      EXPECT_TRUE(report.ok()) << MessageOf(report);
    }
  });
  const auto writing = OpenTuned(files_, {.lock_wait_ms = 60'000});
  store_test::Snapshot last = snapshots_[3];
  for (uint64_t round = 0; round < 20; ++round) {
    store_test::Snapshot next = last;
    for (uint64_t block = 0; block < 30; ++block) {
      next.values[0][block] = block % 4 == 0 ? last.values[0][block] : 10'000 + 50 * round + block;
    }
    const Status committed = Commit(*writing, &last, next, 100 + round);
    EXPECT_TRUE(committed.ok()) << MessageOf(committed);
    last = next;
  }
  done = true;
  for (std::thread& reader : readers) {
    reader.join();
  }
  lister.join();
  pruner.join();
  EXPECT_TRUE(store_->Prune({.keep = {.last = 1}}).ok());
  EXPECT_GE(reads, 2u);
  ExpectReads(*store_, last);
  ExpectWhole(*store_, 2);
}

TEST(StoreLeaseTest, OnTheHostADeadOwnersLapses) {
  const TemporaryDirectory directory;
  const auto files = StoreFiles::OpenDirectory(directory.path()).value();
  const SnapshotId id(Sha256(std::vector<uint8_t>{1}));
  auto first = TakeLease(*files, "machine pacs", id).value();
  auto second = TakeLease(*files, "", std::nullopt).value();
  ASSERT_NE(first, nullptr);
  std::vector<LiveLease> live = LiveLeases(*files).value();
  ASSERT_THAT(live, SizeIs(2));
  std::sort(live.begin(), live.end(),
            [](const LiveLease& left, const LiveLease& right) { return left.id > right.id; });
  EXPECT_EQ(live[0].id, id);
  EXPECT_THAT(live[0].owner, HasSubstr(", machine pacs"));
  EXPECT_EQ(live[1].id, std::nullopt);
  first.reset();
  EXPECT_THAT(LiveLeases(*files).value(), SizeIs(1));
  EXPECT_THAT(files->List("leases").value(), SizeIs(1));
}

// Whoever finds a lease that nobody locks yet removes it; its owner must not stand on nothing.
TEST(StoreLeaseTest, OnTheHostNoneIsLostToThoseWhoTidyUp) {
  const TemporaryDirectory directory;
  const auto files = StoreFiles::OpenDirectory(directory.path()).value();
  std::atomic<bool> done = false;
  std::thread tidying([&] {
    while (!done) {
      EXPECT_TRUE(LiveLeases(*files).ok());
    }
  });
  for (int i = 0; i < 300; ++i) {
    auto lease = TakeLease(*files, "", std::nullopt).value();
    const std::vector<LiveLease> live = LiveLeases(*files).value();
    ASSERT_GE(live.size(), 1u) << i;
  }
  done = true;
  tidying.join();
}

}  // namespace
}  // namespace pacsvisor
