// Verifying that is interrupted and gone on with, samples, and what the store knows of it after.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/store/random_history.h"
#include "vmm/base/clock.h"
#include "vmm/store/verify_records.h"

namespace pacsvisor {
namespace {

using store_test::Commit;
using store_test::DamagesOf;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::SpaceOf;
using store_test::Values;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;
using Cut = MemoryStoreFiles::Cut;

constexpr uint64_t kDayNs = 24ull * 3600 * 1'000'000'000;

StoreTuning VerifyTuning() {
  StoreTuning tuning{.pack_bytes = 5000, .verified_chunks = 3};
  tuning.checkpoint_bytes = 1;
  return tuning;
}

Result<VerifyReport> VerifyAll(Store& store, std::function<bool()> stopped = nullptr,
                               bool restart = false) {
  VerifyRequest request;
  request.restart = restart;
  request.stopped = std::move(stopped);
  return store.VerifyAndRecord(request, nullptr);
}

// A snapshot of eight incompressible blocks, two a pack.
class StoreVerifyTest : public testing::Test {
 protected:
  StoreVerifyTest() {
    snapshot_.spaces = {SpaceOf("memory", 8)};
    snapshot_.values = {{1, 2, 4, 5, 7, 8, 10, 11}};
    snapshot_.state = {1, 2, 3};
    EXPECT_TRUE(Commit(*store_, nullptr, snapshot_, 1).ok());
  }

  // Ends a run of all when it has been asked `times` times whether to stop.
  void Interrupt(int times) {
    const Result<VerifyReport> report = VerifyAll(*store_, [&times] { return times-- == 0; });
    ASSERT_FALSE(report.ok());
    ASSERT_EQ(report.error().code(), ErrorCode::kCancelled);
  }
  VerifyReport Resume() {
    Result<VerifyReport> report = VerifyAll(*OpenTuned(files_, VerifyTuning()));
    EXPECT_TRUE(report.ok()) << MessageOf(report);
    return report.ok() ? std::move(report).value() : VerifyReport();
  }
  std::optional<VerifyCheckpoint> Checkpoint() {
    const Result<std::vector<uint8_t>> bytes = ReadWholeFile(*files_, "cache/verify", kGiB);
    return bytes.ok() ? std::optional(DecodeVerifyCheckpoint(*bytes).value()) : std::nullopt;
  }
  static std::string Pack(uint32_t number) { return PackPath(number); }

  const std::shared_ptr<MemoryStoreFiles> files_ = NewStoreFiles();
  const std::unique_ptr<Store> store_ = OpenTuned(files_, VerifyTuning());
  store_test::Snapshot snapshot_;
};

TEST_F(StoreVerifyTest, WhereverItIsInterruptedNoPackIsReadTwice) {
  const uint64_t bytes = VerifyAll(*store_)->bytes;
  for (int times = 0;; ++times) {
    SCOPED_TRACE("interrupted after " + std::to_string(times) + " looks");
    int left = times;
    const Result<VerifyReport> cut = VerifyAll(*store_, [&left] { return left-- == 0; });
    if (cut.ok()) {
      EXPECT_GE(times, 6);  // a table, a state, each pack
      break;
    }
    const std::optional<VerifyCheckpoint> checkpoint = Checkpoint();
    const size_t proven = checkpoint ? checkpoint->packs.size() : 0;
    EXPECT_EQ(proven, static_cast<size_t>(std::max(0, times - 2)));
    const VerifyReport report = Resume();
    EXPECT_THAT(report.damages, IsEmpty());
    EXPECT_EQ(report.proven_before_bytes > 0, proven > 0);
    EXPECT_EQ(report.bytes<bytes, proven> 0);
    EXPECT_FALSE(Checkpoint().has_value());
    EXPECT_EQ(VerifyAll(*store_)->proven_before_bytes, 0u);
  }
}

TEST_F(StoreVerifyTest, WhatIsFoundAfterAnInterruptionIsWhatWasNotProvenYet) {
  Interrupt(4);  // two packs are proven
  ASSERT_THAT(Checkpoint()->packs, SizeIs(2));
  files_->FlipBit(Pack(1), 100, 1);
  files_->FlipBit(Pack(3), 100, 1);
  const VerifyReport report = Resume();
  ASSERT_THAT(report.damages, SizeIs(1)) << DamagesOf(report);
  EXPECT_EQ(report.damages[0].file, Pack(3));
  EXPECT_THAT(VerifyAll(*store_)->damages, SizeIs(2));
}

TEST_F(StoreVerifyTest, FromTheBeginningWhenThatIsAskedFor) {
  Interrupt(4);
  EXPECT_FALSE(VerifyAll(
                   *store_, [] { return true; }, true)
                   .ok());
  EXPECT_FALSE(Checkpoint().has_value());
  Interrupt(4);
  files_->FlipBit(Pack(1), 100, 1);
  EXPECT_THAT(VerifyAll(*store_, nullptr, true)->damages, SizeIs(1));
}

// With the chunks that are looked for in it, and one more, which is damaged.
TEST_F(StoreVerifyTest, AnotherPackOfThatNumberIsReadAgain) {
  Interrupt(4);
  const auto other_files = NewStoreFiles();
  store_test::Snapshot other{.spaces = snapshot_.spaces, .values = {{1, 2, 13, 0, 0, 0, 0, 0}}};
  ASSERT_TRUE(Commit(*OpenTuned(other_files), nullptr, other, 1).ok());
  other_files->FlipBit(Pack(1), 64 + 2 * kStoreBlockBytes + 100, 1);
  files_->SetBytes(Pack(1), other_files->Bytes(Pack(1)));
  const VerifyReport report = Resume();
  ASSERT_THAT(report.damages, SizeIs(1)) << DamagesOf(report);
  EXPECT_THAT(DamagesOf(report), HasSubstr("chunk 2 at byte 8256"));
}

TEST_F(StoreVerifyTest, APackThatIsGoneSinceIsMissed) {
  Interrupt(4);
  ASSERT_TRUE(files_->Remove(Pack(1)).ok());
  EXPECT_THAT(DamagesOf(Resume()), HasSubstr("no other pack has chunk"));
}

TEST_F(StoreVerifyTest, WhatANewSnapshotTakesOfAProvenPackIsRead) {
  Interrupt(4);
  store_test::Snapshot next = snapshot_;
  next.values[0][7] = 1;  // known: in the first pack
  ASSERT_TRUE(Commit(*store_, &snapshot_, next, 2).ok());
  files_->FlipBit(Pack(1), 100, 1);
  const VerifyReport report = Resume();
  ASSERT_THAT(report.damages, SizeIs(1)) << DamagesOf(report);
  EXPECT_THAT(report.damages[0].snapshots, UnorderedElementsAre(next.id));
}

// Its root, or a page below.
TEST(StoreVerifyTableTest, WhatAPageThatCouldNotBeReadLooksForIsReadOnceItCan) {
  for (const uint64_t blocks : {8u, 600u}) {
    SCOPED_TRACE(blocks);
    const auto files = NewStoreFiles();
    const auto store = OpenTuned(files, VerifyTuning());
    store_test::Snapshot snapshot{.spaces = {SpaceOf("memory", blocks)}, .values = {Values()}};
    for (uint64_t i = 1; i <= blocks; ++i) {
      snapshot.values[0].push_back(i < 5 ? 3 * i + 1 : 3 * i);  // four large ones
    }
    ASSERT_TRUE(Commit(*store, nullptr, snapshot, 1).ok());
    std::string table;
    for (const std::string& path : files->Paths()) {
      table = path.starts_with("objects/") ? path : table;
    }
    files->FlipBit(table, 30, 1);
    int looks = 3;  // the table, two packs
    ASSERT_FALSE(VerifyAll(*store, [&looks] { return looks-- == 0; }).ok());
    files->FlipBit(table, 30, 1);
    files->FlipBit(PackPath(1), 100, 1);
    const VerifyReport report = VerifyAll(*OpenTuned(files, VerifyTuning())).value();
    EXPECT_GT(report.proven_before_bytes, 0u);
    ASSERT_THAT(report.damages, SizeIs(1)) << DamagesOf(report);
    EXPECT_THAT(report.damages[0].snapshots, UnorderedElementsAre(snapshot.id));
  }
}

TEST_F(StoreVerifyTest, AChunkThatWasFoundElsewhereIsLookedForAgain) {
  // The tables of an import know other places: nothing is where they say.
  std::vector<uint8_t> bytes;
  ASSERT_TRUE(store_
                  ->Export(snapshot_.id,
                           [&](std::span<const uint8_t> part) -> Status {
                             bytes.insert(bytes.end(), part.begin(), part.end());
                             return {};
                           })
                  .ok());
  const auto files = NewStoreFiles();
  auto store = OpenTuned(files, VerifyTuning());
  store_test::Snapshot other{.spaces = snapshot_.spaces, .values = {{13, 14, 16, 17, 0, 0, 0, 0}}};
  ASSERT_TRUE(Commit(*store, nullptr, other, 1).ok());
  ASSERT_TRUE(store
                  ->Import([at = size_t{0}, &bytes](std::span<uint8_t> into) mutable {
                    const size_t part = std::min(into.size(), bytes.size() - at);
                    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(at), part, into.begin());
                    at += part;
                    return Result<size_t>(part);
                  })
                  .ok());
  int looks = 8;  // two tables, a state, and five of six packs
  ASSERT_FALSE(VerifyAll(*store, [&looks] { return looks-- == 0; }).ok());
  ASSERT_TRUE(files->Remove(Pack(5)).ok());
  store = OpenTuned(files, VerifyTuning());
  const VerifyReport report = VerifyAll(*store).value();
  EXPECT_GT(report.proven_before_bytes, 0u);
  ASSERT_THAT(report.damages, SizeIs(2)) << DamagesOf(report);  // two chunks a pack
  EXPECT_THAT(report.damages[0].snapshots, UnorderedElementsAre(snapshot_.id));
}

TEST_F(StoreVerifyTest, ACheckpointOfAnotherStoreAnOldOneAndADamagedOneCountForNothing) {
  VerifyCheckpoint checkpoint{.uid = {7},
                              .begun_ns = 3 * kDayNs,
                              .tables = {Hash{1}},
                              .packs = {{1, Hash{2}}, {9, Hash{3}}}};
  ASSERT_TRUE(WriteVerifyCheckpoint(*files_, checkpoint).ok());
  ASSERT_TRUE(WriteVerifyCheckpoint(*files_, checkpoint).ok());
  EXPECT_EQ(ReadVerifyCheckpoint(*files_, {7}, 4 * kDayNs), checkpoint);
  EXPECT_EQ(ReadVerifyCheckpoint(*files_, {8}, 4 * kDayNs), std::nullopt);
  EXPECT_EQ(ReadVerifyCheckpoint(*files_, {7}, 11 * kDayNs), std::nullopt);
  EXPECT_EQ(ReadVerifyCheckpoint(*files_, {7}, 2 * kDayNs), std::nullopt);
  const size_t size = files_->Bytes("cache/verify").size();
  for (size_t byte = 0; byte < size; ++byte) {
    files_->FlipBit("cache/verify", byte, byte % 8);
    EXPECT_EQ(ReadVerifyCheckpoint(*files_, {7}, 4 * kDayNs), std::nullopt) << byte;
    files_->FlipBit("cache/verify", byte, byte % 8);
  }
  EXPECT_TRUE(RemoveVerifyCheckpoint(*files_).ok());
  EXPECT_TRUE(RemoveVerifyCheckpoint(*files_).ok());
}

TEST_F(StoreVerifyTest, TheStoreKnowsWhenEachSnapshotWasProvenWhole) {
  store_test::Snapshot next = snapshot_;
  next.values[0][7] = 19;
  ASSERT_TRUE(Commit(*store_, &snapshot_, next, 2).ok());
  EXPECT_THAT(store_->VerifiedTimes().value(), IsEmpty());
  ASSERT_TRUE(store_->Verify({}, nullptr).ok());
  EXPECT_THAT(store_->VerifiedTimes().value(), IsEmpty());  // it writes nothing
  VerifyRequest one;
  one.ids = {next.id};
  const uint64_t begun_ns = RealtimeNs();
  ASSERT_TRUE(store_->VerifyAndRecord(one, nullptr).ok());
  ASSERT_THAT(store_->VerifiedTimes().value(), SizeIs(1));
  EXPECT_GE(store_->VerifiedTimes()->at(next.id), begun_ns);
  ASSERT_TRUE(VerifyAll(*store_).ok());
  EXPECT_THAT(store_->VerifiedTimes().value(), SizeIs(2));
  // What is damaged is not proven any more; what is gone is forgotten.
  files_->FlipBit(Pack(5), 100, 1);
  EXPECT_THAT(VerifyAll(*store_)->damages, SizeIs(1));
  ASSERT_THAT(store_->VerifiedTimes().value(), SizeIs(1));
  EXPECT_TRUE(store_->VerifiedTimes()->contains(snapshot_.id));
  files_->FlipBit(Pack(5), 100, 1);
  ASSERT_TRUE(store_->Prune({.keep = {.last = 1}}).ok());
  ASSERT_TRUE(VerifyAll(*store_).ok());
  ASSERT_THAT(store_->VerifiedTimes().value(), SizeIs(1));
  EXPECT_TRUE(store_->VerifiedTimes()->contains(next.id));
}

TEST_F(StoreVerifyTest, OneThatIsGoneOnWithCountsFromItsFirstBeginning) {
  Interrupt(4);
  VerifyCheckpoint checkpoint = Checkpoint().value();
  checkpoint.begun_ns -= kDayNs;
  ASSERT_TRUE(WriteVerifyCheckpoint(*files_, checkpoint).ok());
  Resume();
  EXPECT_EQ(store_->VerifiedTimes()->at(snapshot_.id), checkpoint.begun_ns);
}

TEST_F(StoreVerifyTest, ADamagedRecordIsNone) {
  ASSERT_TRUE(VerifyAll(*store_).ok());
  for (size_t byte = 0; byte < files_->Bytes("verified").size(); ++byte) {
    files_->FlipBit("verified", byte, 3);
    EXPECT_THAT(store_->VerifiedTimes().value(), IsEmpty());
    files_->FlipBit("verified", byte, 3);
  }
  EXPECT_THAT(store_->VerifiedTimes().value(), SizeIs(1));
}

// Wherever it ends, the store is whole, nobody claims what was not proven, and the next one is
// done.
TEST_F(StoreVerifyTest, WhereverItIsKilledOrACallFailsTheNextOneGoesOn) {
  const auto check = [&](const std::shared_ptr<MemoryStoreFiles>& left) {
    const auto store = OpenTuned(left, VerifyTuning());
    const Result<VerifyReport> report = VerifyAll(*store);
    ASSERT_TRUE(report.ok()) << MessageOf(report);
    EXPECT_THAT(report->damages, IsEmpty()) << DamagesOf(*report);
    EXPECT_EQ(report->not_recorded, "");
    EXPECT_THAT(store->VerifiedTimes().value(), SizeIs(1));
    store_test::Snapshot next = snapshot_;
    next.values[0][2] = 25;
    ASSERT_TRUE(Commit(*store, &snapshot_, next, 2).ok());
    ASSERT_NO_FATAL_FAILURE(store_test::ExpectReads(*store, next));
  };
  for (const Cut cut : {Cut::kKilled, Cut::kUnsynced, Cut::kTorn}) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE("ended after change " + std::to_string(n));
      const auto files = files_->After(Cut::kKilled);
      files->EndAfter(n);
      (void)VerifyAll(*OpenTuned(files, VerifyTuning())).ok();
      ASSERT_NO_FATAL_FAILURE(check(files->After(cut, n)));
      if (!files->ended()) {
        break;
      }
    }
  }
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("call " + std::to_string(n) + " failed");
    const auto files = files_->After(Cut::kKilled);
    const auto store = OpenTuned(files, VerifyTuning());
    files->FailAfter(n, EIO);
    const Result<VerifyReport> report = VerifyAll(*store);
    if (!files->failed()) {
      break;
    }
    const auto times = store->VerifiedTimes();
    const bool known = times.ok() && times->contains(snapshot_.id);
    EXPECT_TRUE(report.ok() || !known);
    for (const VerifyReport::Damage& damage :
         report.ok() ? report->damages : std::vector<VerifyReport::Damage>()) {
      EXPECT_TRUE(damage.snapshots.empty() || !known) << damage.file;
    }
    ASSERT_NO_FATAL_FAILURE(check(files->After(Cut::kUnsynced, n)));
  }
}

Result<VerifyReport> Sample(Store& store, double share, uint64_t chunks, uint64_t seed) {
  VerifyRequest request;
  request.sample = VerifyRequest::Sample{.share = share, .chunks = chunks, .seed = seed};
  return store.VerifyAndRecord(request, nullptr);
}

TEST_F(StoreVerifyTest, ASampleReadsAsManyChunksAsWereAskedFor) {
  for (uint64_t count = 0; count <= 9; ++count) {
    const Result<VerifyReport> report = Sample(*store_, 0, count, 5);
    ASSERT_TRUE(report.ok()) << MessageOf(report);
    EXPECT_THAT(report->damages, IsEmpty());
    EXPECT_EQ(report->sample->chunks, std::min<uint64_t>(count, 8));
    EXPECT_EQ(report->sample->chunks_total, 8u);
  }
  EXPECT_EQ(Sample(*store_, 0.5, 0, 5)->sample->chunks, 4u);
  EXPECT_EQ(Sample(*store_, 0.01, 0, 5)->sample->chunks, 1u);
  EXPECT_EQ(Sample(*store_, 1, 0, 5)->sample->chunks, 8u);
  EXPECT_THAT(store_->VerifiedTimes().value(), IsEmpty());
}

TEST_F(StoreVerifyTest, ASampleIsRandomEachChunkComesUpAndItsSeedRepeatsIt) {
  files_->FlipBit(Pack(2), 100, 1);  // one chunk of eight
  int found = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const VerifyReport report = Sample(*store_, 0, 2, seed).value();
    found += report.damages.empty() ? 0 : 1;
    EXPECT_EQ(report.damages.size() + report.sample->chunks, 2u);
    EXPECT_EQ(Sample(*store_, 0, 2, seed)->damages.size(), report.damages.size());
  }
  EXPECT_NEAR(found, 100, 40);  // a quarter; the seeds are always the same
}

TEST_F(StoreVerifyTest, ASampleOfAllFindsWhatVerifyFinds) {
  for (const std::string& path : files_->Paths()) {
    if (path == kLockPath || path == kHeaderPath) {
      continue;  // of no contents; and what is looked at before anything else
    }
    for (uint64_t byte = 0; byte < files_->Bytes(path).size(); byte += 7) {
      files_->FlipBit(path, byte, 1);
      const auto store = OpenTuned(files_->After(Cut::kKilled), VerifyTuning());
      files_->FlipBit(path, byte, 1);
      const VerifyReport whole = store->Verify({}, nullptr).value();
      const VerifyReport report = Sample(*store, 1, 0, byte).value();
      ASSERT_EQ(report.damages.empty(), whole.damages.empty()) << path << " " << byte;
      if (!whole.damages.empty()) {
        EXPECT_EQ(report.damages[0].file, whole.damages[0].file) << byte;
        EXPECT_EQ(report.damages[0].snapshots, whole.damages[0].snapshots) << path << " " << byte;
      }
    }
  }
}

}  // namespace
}  // namespace pacsvisor
