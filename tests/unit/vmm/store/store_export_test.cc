// Exports and imports: the same snapshot in another store, or nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "tests/unit/vmm/store/random_history.h"

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
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Cut = MemoryStoreFiles::Cut;

std::vector<uint8_t> ExportOf(Store& store, const SnapshotId& id) {
  std::vector<uint8_t> bytes;
  const Result<ExportReport> report =
      store.Export(id, [&](std::span<const uint8_t> part) -> Status {
        bytes.insert(bytes.end(), part.begin(), part.end());
        return {};
      });
  EXPECT_TRUE(report.ok()) << MessageOf(report);
  EXPECT_TRUE(!report.ok() || report->bytes == bytes.size());
  return bytes;
}

// `most` bytes at a time, as a pipe hands them over.
Result<ImportReport> ImportFrom(Store& store, std::span<const uint8_t> bytes, size_t most = 4096) {
  return store.Import([bytes, most](std::span<uint8_t> into) mutable -> Result<size_t> {
    const size_t part = std::min({into.size(), bytes.size(), most});
    std::copy_n(bytes.begin(), part, into.begin());
    bytes = bytes.subspan(part);
    return part;
  });
}

store_test::Snapshot SmallSnapshot(uint64_t first_value) {
  store_test::Snapshot snapshot;
  snapshot.spaces = {SpaceOf("memory", 6), SpaceOf("disk0", 3)};
  for (const StoredSpace& space : snapshot.spaces) {
    store_test::Values values(space.block_count());
    for (uint64_t i = 0; i < values.size(); ++i) {
      values[i] = i % 4 == 3 ? 0 : 3 * (first_value + i);  // small ones
    }
    snapshot.values.push_back(values);
  }
  snapshot.values[1][1] = 1;  // one raw
  snapshot.state = {static_cast<uint8_t>(first_value), 2, 3};
  return snapshot;
}

StoreTuning ExportTuning() {
  return {.pack_bytes = 5000, .most_tables = 2, .verified_chunks = 2, .owner = ""};
}

// Two snapshots, and the export of the second, which is held.
class StoreExportTestBase {
 protected:
  explicit StoreExportTestBase(Encryption encryption)
      : encryption_(encryption),
        files_(NewStoreFiles(encryption)),
        store_(OpenTuned(files_, ExportTuning())),
        first_(SmallSnapshot(1)),
        second_(SmallSnapshot(3)) {
    EXPECT_TRUE(Commit(*store_, nullptr, first_, 1).ok());
    EXPECT_TRUE(Commit(*store_, &first_, second_, 2).ok());
    EXPECT_TRUE(store_->AddHold(second_.id, 0, "it is exported").ok());
    EXPECT_TRUE(store_->AddFetchHold(second_.id, "of this store alone").ok());
    bytes_ = ExportOf(*store_, second_.id);
  }

  const Encryption encryption_;
  const std::shared_ptr<MemoryStoreFiles> files_;
  const std::unique_ptr<Store> store_;
  store_test::Snapshot first_;
  store_test::Snapshot second_;
  std::vector<uint8_t> bytes_;
};

class StoreExportTest : public StoreExportTestBase, public testing::TestWithParam<Encryption> {
 protected:
  StoreExportTest() : StoreExportTestBase(GetParam()) {}
};

TEST_P(StoreExportTest, IntoAnEmptyStoreItIsTheSameSnapshotWithItsHolds) {
  for (const size_t most : {size_t{1}, size_t{777}, size_t{1} << 20}) {
    const auto target = NewStoreFiles(encryption_);
    const auto store = OpenTuned(target, ExportTuning());
    const Result<ImportReport> report = ImportFrom(*store, bytes_, most);
    ASSERT_TRUE(report.ok()) << MessageOf(report);
    EXPECT_EQ(report->info.id, second_.id);
    EXPECT_FALSE(report->was_there);
    EXPECT_EQ(report->bytes, bytes_.size());
    ExpectReads(*store, second_);
    ExpectWhole(*store, 1);
    ASSERT_THAT(store->Holds().value(), SizeIs(1));
    EXPECT_EQ(store->Holds().value()[0].reason, "it is exported");
    EXPECT_THAT(target->List("tmp").value(), IsEmpty());
    // What is written and pruned after it leaves it alone.
    store_test::Snapshot next = SmallSnapshot(90);
    ASSERT_TRUE(Commit(*store, &second_, next, 3).ok());
    ASSERT_TRUE(store->Prune({.keep = {.last = 1}}).ok());
    ExpectReads(*store, second_);
    ExpectReads(*store, next);
    ExpectWhole(*store, 2);
  }
}

TEST_P(StoreExportTest, WhatTheStoreHasIsNotWrittenAgain) {
  const auto target = NewStoreFiles(encryption_);
  const auto store = OpenTuned(target);
  ASSERT_TRUE(ImportFrom(*store, ExportOf(*store_, first_.id)).ok());
  const Result<ImportReport> report = ImportFrom(*store, bytes_);
  ASSERT_TRUE(report.ok()) << MessageOf(report);
  EXPECT_GT(report->known_chunks, 0u);
  EXPECT_LT(report->known_chunks, report->chunks);
  const Result<ImportReport> again = ImportFrom(*store, bytes_);
  ASSERT_TRUE(again.ok()) << MessageOf(again);
  EXPECT_TRUE(again->was_there);
  ExpectReads(*store, first_);
  ExpectReads(*store, second_);
  ExpectWhole(*store, 2);
}

TEST_P(StoreExportTest, AnExportOfAnImportHoldsTheSame) {
  const auto store = OpenTuned(NewStoreFiles(encryption_));
  ASSERT_TRUE(ImportFrom(*store, bytes_).ok());
  const std::vector<uint8_t> again = ExportOf(*store, second_.id);
  const auto third = OpenTuned(NewStoreFiles(encryption_));
  ASSERT_TRUE(ImportFrom(*third, again).ok());
  ExpectReads(*third, second_);
}

TEST_P(StoreExportTest, CutShortAnywhereItIsRefusedAndNothingIsLeft) {
  const auto target = NewStoreFiles(encryption_);
  const auto store = OpenTuned(target, ExportTuning());
  const std::vector<std::string> before = target->Paths();
  for (size_t size = 0; size < bytes_.size(); ++size) {
    const Result<ImportReport> report = ImportFrom(*store, std::span(bytes_).first(size));
    ASSERT_FALSE(report.ok()) << size;
    ASSERT_EQ(report.error().code(), ErrorCode::kCorrupt) << size;
    ASSERT_THAT(report.error().message(), HasSubstr("the export ends at byte")) << size;
    ASSERT_EQ(target->Paths(), before) << size;
  }
}

TEST_P(StoreExportTest, EveryFlippedBitIsRefusedAndNothingIsLeft) {
  const auto target = NewStoreFiles(encryption_);
  const auto store = OpenTuned(target, ExportTuning());
  const std::vector<std::string> before = target->Paths();
  for (size_t byte = 0; byte < bytes_.size(); ++byte) {
    std::vector<uint8_t> flipped = bytes_;
    flipped[byte] ^= static_cast<uint8_t>(1u << byte % 8);
    const Result<ImportReport> report = ImportFrom(*store, flipped, 1 << 20);
    ASSERT_FALSE(report.ok()) << byte;
    ASSERT_THAT(report.error().message(), HasSubstr("export")) << byte;
    ASSERT_EQ(target->Paths(), before) << byte << ": " << MessageOf(report);
  }
  EXPECT_TRUE(ImportFrom(*store, bytes_).ok());
}

TEST_P(StoreExportTest, WhatFollowsItsEndIsRefused) {
  bytes_.push_back(0);
  const auto store = OpenTuned(NewStoreFiles(encryption_));
  const Result<ImportReport> report = ImportFrom(*store, bytes_);
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message(), HasSubstr("behind its end"));
}

TEST_P(StoreExportTest, DamageInTheStoreIsNotExported) {
  const std::string pack = "packs/00000001.pack";
  files_->FlipBit(pack, 80, 1);
  const auto store = OpenTuned(files_);
  const Result<ExportReport> report =
      store->Export(first_.id, [](std::span<const uint8_t>) { return Status(); });
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(report.error().message(), HasSubstr(pack));
}

TEST_P(StoreExportTest, AnErrorOfTheStreamIsPassedOn) {
  const auto full = [](std::span<const uint8_t>) -> Status {
    return Error::FromErrno(ENOSPC, "cannot write the export");
  };
  EXPECT_EQ(store_->Export(second_.id, full).error().code(), ErrorCode::kNoSpace);
  const auto broken = [](std::span<uint8_t>) -> Result<size_t> {
    return Error::FromErrno(EIO, "cannot read the export");
  };
  EXPECT_EQ(store_->Import(broken).error().error_number(), EIO);
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreExportTest,
                         testing::Values(Encryption::kNone, Encryption::kKey),
                         [](const auto& test) { return NameOf(test.param); });

TEST(StoreExportKeyTest, AStoreWithAnotherSecretOrNoneRefusesIt) {
  for (const Encryption encryption : {Encryption::kNone, Encryption::kKey}) {
    const auto source = OpenTuned(NewStoreFiles(encryption));
    store_test::Snapshot first = SmallSnapshot(1);
    ASSERT_TRUE(Commit(*source, nullptr, first, 1).ok());
    const std::vector<uint8_t> bytes = ExportOf(*source, first.id);
    const auto other = OpenTuned(
        NewStoreFiles(encryption == Encryption::kKey ? Encryption::kNone : Encryption::kKey));
    EXPECT_EQ(ImportFrom(*other, bytes).error().code(), ErrorCode::kUnsupported);
    if (encryption == Encryption::kKey) {
      const auto stranger = MemoryStoreFiles::Create();
      ASSERT_TRUE(Store::Create(*stranger, store_test::KeyOf().get()).ok());
      EXPECT_EQ(ImportFrom(*OpenTuned(stranger), bytes).error().code(),
                ErrorCode::kPermissionDenied);
    }
  }
}

TEST(StoreExportKeyTest, ANewStoreTakesItsSecretFromTheExport) {
  const auto source_files = MemoryStoreFiles::Create();
  ASSERT_TRUE(Store::Create(*source_files, store_test::KeyOf().get()).ok());
  const auto source = OpenTuned(source_files);
  store_test::Snapshot first = SmallSnapshot(1);
  ASSERT_TRUE(Commit(*source, nullptr, first, 1).ok());
  const std::vector<uint8_t> bytes = ExportOf(*source, first.id);
  const auto beginning = std::span(bytes).first(kExportBeginningBytes);
  EXPECT_EQ(Store::SecretOfExport(beginning, nullptr).error().code(), ErrorCode::kPermissionDenied);
  EXPECT_EQ(Store::SecretOfExport(beginning, store_test::KeyOf(2).get()).error().code(),
            ErrorCode::kPermissionDenied);
  const auto secret = Store::SecretOfExport(beginning, store_test::KeyOf().get());
  ASSERT_TRUE(secret.ok()) << MessageOf(secret);
  const auto files = MemoryStoreFiles::Create();
  ASSERT_TRUE(Store::Create(*files, store_test::KeyOf().get(), *secret).ok());
  const auto store = OpenTuned(files);
  const Result<ImportReport> report = ImportFrom(*store, bytes);
  ASSERT_TRUE(report.ok()) << MessageOf(report);
  ExpectReads(*store, first);
  ExpectWhole(*store, 1);
}

// By somebody who has no key, but can make a trailer.
TEST(StoreExportKeyTest, AChunkThatNoTableNamesIsRefused) {
  const auto source = OpenTuned(NewStoreFiles(Encryption::kKey));
  store_test::Snapshot first = SmallSnapshot(1);
  ASSERT_TRUE(Commit(*source, nullptr, first, 1).ok());
  std::vector<uint8_t> bytes = ExportOf(*source, first.id);
  constexpr size_t kTrailerBytes = 48;
  constexpr size_t kEndBytes = 2;  // the length of 0
  const uint64_t chunks = LoadLe<uint64_t>(bytes.data() + bytes.size() - kTrailerBytes);
  std::vector<uint8_t> strange(2 + 32 + 284, 5);
  StoreLe(strange.data(), uint16_t{284});
  bytes.insert(bytes.end() - kTrailerBytes - kEndBytes, strange.begin(), strange.end());
  uint8_t* const trailer = bytes.data() + bytes.size() - kTrailerBytes;
  StoreLe(trailer, chunks + 1);
  const Hash hash = Sha256(std::span(bytes).first(bytes.size() - kTrailerBytes));
  std::copy(hash.begin(), hash.end(), trailer + 8);
  const auto files = NewStoreFiles(Encryption::kKey);
  const auto store = OpenTuned(files);
  const Result<ImportReport> report = ImportFrom(*store, bytes);
  EXPECT_EQ(report.error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(report.error().message(), HasSubstr("no table names"));
  EXPECT_THAT(store->List().value(), IsEmpty());
  EXPECT_THAT(files->List("packs").value(), IsEmpty());
}

// What must hold of a store with first_ after an import that may have failed, and a cut.
class StoreImportSweepTest : public StoreExportTestBase,
                             public testing::TestWithParam<std::tuple<Cut, Encryption>> {
 protected:
  static Cut cut() { return std::get<0>(GetParam()); }

  StoreImportSweepTest()
      : StoreExportTestBase(std::get<1>(GetParam())), target_(NewStoreFiles(encryption_)) {
    const auto store = OpenTuned(target_, ExportTuning());
    EXPECT_TRUE(ImportFrom(*store, ExportOf(*store_, first_.id)).ok());
  }

  void Check(const std::shared_ptr<MemoryStoreFiles>& left, bool imported) {
    const auto store = OpenTuned(left, ExportTuning());
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, first_));
    const size_t count = store->List().value().size();
    ASSERT_TRUE(count == 2 || (count == 1 && !imported)) << count;
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, count));
    if (count == 2) {
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second_));
      ASSERT_THAT(store->Holds().value(), SizeIs(1));
    }
    const Result<ImportReport> again = ImportFrom(*store, bytes_);
    ASSERT_TRUE(again.ok()) << MessageOf(again);
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second_));
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, first_));
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, 2));
    ASSERT_TRUE(store->Prune({}).ok());
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second_));
    ASSERT_THAT(left->List("tmp").value(), IsEmpty());
  }

  std::shared_ptr<MemoryStoreFiles> target_;
};

TEST_P(StoreImportSweepTest, WhereverItEndsTheSnapshotIsThereOrNot) {
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = target_->After(Cut::kKilled);
    files->EndAfter(n);
    const auto store = TryOpen(files, ExportTuning());
    const bool imported = store.ok() && ImportFrom(**store, bytes_).ok();
    for (uint64_t seed = 0; seed < (cut() == Cut::kTorn ? 4 : 1); ++seed) {
      ASSERT_NO_FATAL_FAILURE(Check(files->After(cut(), n * 100 + seed), imported));
    }
    if (!files->ended()) {
      ASSERT_TRUE(imported);
      break;
    }
  }
}

TEST_P(StoreImportSweepTest, AFailedCallIsReportedAndTheNextTryWorks) {
  for (const int failure : {ENOSPC, EIO}) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE("call " + std::to_string(n) + " failed");
      const auto files = target_->After(Cut::kKilled);
      const auto store = OpenTuned(files, ExportTuning());
      files->FailAfter(n, failure);
      const Result<ImportReport> report = ImportFrom(*store, bytes_);
      if (!files->failed()) {
        ASSERT_TRUE(report.ok()) << MessageOf(report);
        break;
      }
      ASSERT_NO_FATAL_FAILURE(Check(files->After(cut(), n), report.ok()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, StoreImportSweepTest,
                         testing::Combine(testing::Values(Cut::kKilled, Cut::kUnsynced, Cut::kTorn),
                                          testing::Values(Encryption::kNone, Encryption::kKey)),
                         [](const auto& test) {
                           return NameOf(std::get<0>(test.param)) + NameOf(std::get<1>(test.param));
                         });

// Between two stores with histories of their own, pruned in between.
TEST(StoreExportHistoryTest, AnySnapshotReadsAsItWasWrittenInAnotherStore) {
  for (const auto& [seed, encryption] :
       {std::pair(31u, Encryption::kNone), std::pair(32u, Encryption::kNone),
        std::pair(33u, Encryption::kKey)}) {
    store_test::RandomHistory history(seed);
    store_test::RandomHistory other_history(seed + 10);
    const StoreTuning tuning{.pack_bytes = 60'000, .most_tables = 3, .verified_chunks = 50};
    const auto store = OpenTuned(NewStoreFiles(encryption), tuning);
    const auto other = OpenTuned(NewStoreFiles(encryption), tuning);
    std::vector<store_test::Snapshot> imported;
    for (int i = 0; i < 60; ++i) {
      ASSERT_NO_FATAL_FAILURE(history.Step(*store));
      ASSERT_NO_FATAL_FAILURE(other_history.Step(*other));
      if (i % 6 == 5) {
        imported.push_back(history.snapshots()[static_cast<size_t>(i - i % 4)]);
        const auto report =
            ImportFrom(*other, ExportOf(*store, imported.back().id), size_t{1} << 20);
        ASSERT_TRUE(report.ok()) << MessageOf(report);
      }
      if (i % 20 == 19) {
        ASSERT_TRUE(other->Prune({}).ok());
      }
    }
    for (const store_test::Snapshot& snapshot : imported) {
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*other, snapshot)) << snapshot.id.Hex();
    }
    for (const store_test::Snapshot& snapshot : other_history.snapshots()) {
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*other, snapshot)) << snapshot.id.Hex();
    }
    const VerifyReport report = other->Verify({}, nullptr).value();
    EXPECT_THAT(report.damages, IsEmpty()) << store_test::DamagesOf(report);
  }
}

}  // namespace
}  // namespace pacsvisor
