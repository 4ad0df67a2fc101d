// A flipped bit, anywhere: verify names the file and who needs it, and no reader ever sees wrong
// bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/store/store_model.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::Commit;
using store_test::DamagesOf;
using store_test::DraftOf;
using store_test::Encryption;
using store_test::ExpectReads;
using store_test::MessageOf;
using store_test::NameOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::SpaceOf;
using store_test::TryOpen;
using testing::Contains;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

// Two snapshots that share a table and chunks, and one of another machine.
class StoreDamageTest : public testing::TestWithParam<Encryption> {
 protected:
  void SetUp() override {
    const auto store = OpenTuned(files_, {.pack_bytes = 16000});
    snapshots_[0] = Make({3, 6, 9, 0, 12, 1});
    ASSERT_TRUE(Commit(*store, nullptr, snapshots_[0], 1).ok());
    snapshots_[1] = Make({3, 6, 15, 2, 12, 1});
    ASSERT_TRUE(Commit(*store, &snapshots_[0], snapshots_[1], 2).ok());
    snapshots_[2] = Make({18, 21, 0, 0, 0, 4});
    ASSERT_TRUE(Commit(*store, nullptr, snapshots_[2], 3).ok());
  }

  static store_test::Snapshot Make(store_test::Values values) {
    store_test::Snapshot snapshot;
    snapshot.spaces = {SpaceOf("memory", values.size())};
    snapshot.state = {static_cast<uint8_t>(values[0]), static_cast<uint8_t>(values[2])};
    snapshot.values = {std::move(values)};
    return snapshot;
  }

  // Reads each block alone: right, or refused.
  void ExpectNothingWrong(Store& store) {
    std::vector<uint8_t> bytes(kStoreBlockBytes);
    for (const store_test::Snapshot& snapshot : snapshots_) {
      const auto reader = store.OpenSnapshot(snapshot.id);
      for (uint64_t i = 0; reader.ok() && i < snapshot.values[0].size(); ++i) {
        const Status read = (*reader)->Read(0, BlockIndex(i), bytes);
        if (read.ok()) {
          ASSERT_EQ(bytes, BlockOf(snapshot.values[0][i])) << "block " << i;
        } else {
          ASSERT_EQ(read.error().code(), ErrorCode::kCorrupt) << MessageOf(read);
        }
      }
      if (reader.ok()) {
        const auto state = (*reader)->State();
        ASSERT_TRUE(!state.ok() || *state == snapshot.state);
      }
    }
  }

  // Without which no store opens.
  static bool IsOpened(const std::string& path) {
    return path == "pacsvisor-store" || path == kStoreKeyPath;
  }

  std::shared_ptr<MemoryStoreFiles> files_ = NewStoreFiles(GetParam());
  store_test::Snapshot snapshots_[3];
};

TEST_P(StoreDamageTest, EveryFlippedBitIsFoundAndItsFileNamed) {
  for (const std::string& path : files_->Paths()) {
    const uint64_t size = files_->Bytes(path).size();
    // All of the small files; of raw chunks every 37th byte.
    const bool raw = size > 3000;
    for (uint64_t byte = 0; byte < size; byte += raw && byte > 300 && byte + 400 < size ? 37 : 1) {
      SCOPED_TRACE(path + " byte " + std::to_string(byte));
      const auto files = files_->After(MemoryStoreFiles::Cut::kKilled);
      files->FlipBit(path, byte, static_cast<unsigned>(byte % 8));
      const auto store = TryOpen(files);
      if (IsOpened(path)) {
        ASSERT_FALSE(store.ok());
        ASSERT_THAT(store.error().message(),
                    HasSubstr(path == "pacsvisor-store" && byte < 12 ? "store" : path));
        continue;
      }
      ASSERT_TRUE(store.ok()) << MessageOf(store);
      const auto report = (*store)->Verify({}, nullptr);
      ASSERT_TRUE(report.ok()) << MessageOf(report);
      ASSERT_FALSE(report->damages.empty());
      for (const VerifyReport::Damage& damage : report->damages) {
        ASSERT_EQ(damage.file, path) << damage.what;
        ASSERT_FALSE(damage.snapshots.empty()) << damage.what;
      }
      ASSERT_NO_FATAL_FAILURE(ExpectNothingWrong(**store));
    }
  }
}

TEST_P(StoreDamageTest, DamageNamesTheSnapshotsThatNeedIt) {
  // The first pack holds the first snapshot's chunks, the second the second's.
  const auto damaged = [&](const std::string& path) {
    const auto files = files_->After(MemoryStoreFiles::Cut::kKilled);
    files->FlipBit(path, 70, 0);
    const VerifyReport report = OpenTuned(files)->Verify({}, nullptr).value();
    EXPECT_EQ(report.damages.size(), 1u) << DamagesOf(report);
    return report.damages.empty() ? std::vector<SnapshotId>() : report.damages[0].snapshots;
  };
  EXPECT_THAT(damaged("packs/00000001.pack"),
              UnorderedElementsAre(snapshots_[0].id, snapshots_[1].id));
  EXPECT_THAT(damaged("packs/00000002.pack"), UnorderedElementsAre(snapshots_[1].id));
  EXPECT_THAT(damaged("packs/00000003.pack"), UnorderedElementsAre(snapshots_[2].id));
  EXPECT_THAT(damaged("snapshots/" + snapshots_[2].id.Hex() + ".snapshot"),
              UnorderedElementsAre(snapshots_[2].id));
}

TEST_P(StoreDamageTest, OnlyWhatTheGivenSnapshotsStandOnIsChecked) {
  files_->FlipBit("packs/00000003.pack", 70, 0);
  const auto store = OpenTuned(files_);
  EXPECT_TRUE(store->Verify({snapshots_[0].id, snapshots_[1].id}, nullptr).value().damages.empty());
  const VerifyReport report = store->Verify({snapshots_[2].id}, nullptr).value();
  ASSERT_EQ(report.damages.size(), 1u) << DamagesOf(report);
  EXPECT_EQ(report.damages[0].file, "packs/00000003.pack");
}

TEST_P(StoreDamageTest, MissingFilesAreNamed) {
  for (const std::string& path : files_->Paths()) {
    if (IsOpened(path) || path.starts_with("snapshots/")) {
      continue;  // no store; no snapshot
    }
    SCOPED_TRACE(path);
    const auto files = files_->After(MemoryStoreFiles::Cut::kKilled);
    ASSERT_TRUE(files->Remove(path).ok());
    const auto store = OpenTuned(files);
    const VerifyReport report = store->Verify({}, nullptr).value();
    ASSERT_FALSE(report.damages.empty());
    EXPECT_EQ(report.damages[0].file, path) << DamagesOf(report);
    ExpectNothingWrong(*store);
  }
}

TEST_P(StoreDamageTest, FilesThatAreCutShortAreNamed) {
  for (const std::string& path : files_->Paths()) {
    const std::vector<uint8_t> bytes = files_->Bytes(path);
    for (const size_t left : {size_t{0}, size_t{10}, bytes.size() / 2, bytes.size() - 1}) {
      SCOPED_TRACE(path + " cut to " + std::to_string(left));
      const auto files = files_->After(MemoryStoreFiles::Cut::kKilled);
      files->SetBytes(path, {bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(left)});
      const auto store = TryOpen(files);
      if (IsOpened(path)) {
        ASSERT_FALSE(store.ok());
        continue;
      }
      const VerifyReport report = (*store)->Verify({}, nullptr).value();
      ASSERT_FALSE(report.damages.empty());
      EXPECT_EQ(report.damages[0].file, path) << DamagesOf(report);
      ExpectNothingWrong(**store);
    }
  }
}

TEST_P(StoreDamageTest, AWriterGoesOnBesideADamagedPackAndADamagedRoot) {
  files_->FlipBit("packs/00000001.pack", files_->Bytes("packs/00000001.pack").size() - 1, 0);
  files_->FlipBit("snapshots/" + snapshots_[2].id.Hex() + ".snapshot", 20, 0);
  ASSERT_TRUE(files_->CreateFile("tmp/left-over").ok());
  const auto store = OpenTuned(files_);
  EXPECT_EQ(store->List().error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(store->List().error().message(), HasSubstr(snapshots_[2].id.Hex()));
  store_test::Snapshot next = Make({3, 6, 9, 0, 12, 30});
  const Status committed = Commit(*store, &snapshots_[1], next, 4);
  ASSERT_TRUE(committed.ok()) << MessageOf(committed);
  ExpectReads(*store, next);
  EXPECT_THAT(files_->Paths(), Contains("packs/00000003.pack"));  // nobody knows that it is dead
}

TEST_P(StoreDamageTest, StrangeFilesAreNoDamage) {
  for (const char* path : {"packs/readme", "packs/1.pack", "snapshots/x.snapshot", "objects/y",
                           "tmp/z", "packs/0000000g.pack"}) {
    ASSERT_TRUE(files_->CreateFile(path).ok());
  }
  const auto store = OpenTuned(files_);
  const VerifyReport report = store->Verify({}, nullptr).value();
  EXPECT_TRUE(report.damages.empty()) << DamagesOf(report);
  store_test::Snapshot next = Make({3, 6, 9, 0, 12, 30});
  const Status committed = Commit(*store, &snapshots_[1], next, 4);
  EXPECT_TRUE(committed.ok()) << MessageOf(committed);
}

TEST_P(StoreDamageTest, ProgressEndsWithEverythingDone) {
  for (const std::vector<SnapshotId>& ids :
       {std::vector<SnapshotId>{}, std::vector<SnapshotId>{snapshots_[1].id}}) {
    VerifyProgress last;
    uint64_t before = 0;
    const VerifyReport report = OpenTuned(files_)
                                    ->Verify(ids,
                                             [&](const VerifyProgress& progress) {
                                               EXPECT_GE(progress.bytes_done, before);
                                               before = progress.bytes_done;
                                               last = progress;
                                             })
                                    .value();
    EXPECT_EQ(last.bytes_done, last.bytes_total);
    EXPECT_EQ(report.bytes, last.bytes_done);
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreDamageTest,
                         testing::Values(Encryption::kNone, Encryption::kKey),
                         [](const auto& test) { return NameOf(test.param); });

}  // namespace
}  // namespace pacsvisor
