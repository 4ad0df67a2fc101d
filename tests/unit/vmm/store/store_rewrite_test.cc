// Snapshots written anew into stores of other kinds and secrets.
#include "vmm/store/store_rewrite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/vmm/store/store_model.h"
#include "vmm/base/clock.h"

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
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

struct Kinds {
  Encryption source;
  Encryption target;
};

// With a secret that no other store has.
std::shared_ptr<MemoryStoreFiles> TargetFiles(Encryption encryption) {
  std::shared_ptr<MemoryStoreFiles> files = MemoryStoreFiles::Create();
  const bool key = encryption == Encryption::kKey;
  EXPECT_TRUE(Store::Create(*files, key ? store_test::KeyOf().get() : nullptr).ok());
  return files;
}

// Two snapshots in a store, and another one.
class StoreRewriteTest : public testing::TestWithParam<Kinds> {
 protected:
  StoreRewriteTest() {
    first_.spaces = {SpaceOf("memory", 700), SpaceOf("disk0", 3)};
    first_.values = {store_test::Values(700), {13, 0, 2}};
    for (uint64_t i = 0; i < 40; ++i) {
      first_.values[0][i * 17] = 1 + i % 30;
    }
    first_.state = {1, 2, 3};
    second_ = first_;
    second_.values[0][1] = 44;
    second_.values[1][2] = 46;
    second_.state = {4, 5};
    EXPECT_TRUE(Commit(*source_, nullptr, first_, 1).ok());
    EXPECT_TRUE(Commit(*source_, &first_, second_, 2).ok());
    EXPECT_TRUE(source_->AddHold(second_.id, 0, "it is copied").ok());
    EXPECT_TRUE(source_->AddFetchHold(second_.id, "of this store alone").ok());
  }
  // The same contents under the id that they have there.
  static store_test::Snapshot As(store_test::Snapshot snapshot, const SnapshotId& id) {
    snapshot.id = id;
    return snapshot;
  }

  const std::shared_ptr<MemoryStoreFiles> source_files_ = NewStoreFiles(GetParam().source);
  const std::shared_ptr<MemoryStoreFiles> target_files_ = TargetFiles(GetParam().target);
  const std::unique_ptr<Store> source_ = OpenTuned(source_files_);
  const std::unique_ptr<Store> target_ = OpenTuned(target_files_);
  store_test::Snapshot first_;
  store_test::Snapshot second_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, StoreRewriteTest,
                         testing::Values(Kinds{Encryption::kNone, Encryption::kKey},
                                         Kinds{Encryption::kKey, Encryption::kNone},
                                         Kinds{Encryption::kKey, Encryption::kKey}),
                         [](const auto& one) {
                           return NameOf(one.param.source) + "To" + NameOf(one.param.target);
                         });

TEST_P(StoreRewriteTest, ItHasTheSameContentsUnderAnIdOfItsOwn) {
  const Result<CopyReport> one = RewriteSnapshot(*source_, *target_, first_.id);
  ASSERT_TRUE(one.ok()) << MessageOf(one);
  const Result<CopyReport> two = RewriteSnapshot(*source_, *target_, second_.id);
  ASSERT_TRUE(two.ok()) << MessageOf(two);
  EXPECT_NE(two->info.id, second_.id);
  EXPECT_EQ(two->info.parent, one->info.id) << "what its parent has become";
  EXPECT_EQ(two->info.draft.texts.at(kRewrittenFrom), second_.id.Hex());
  EXPECT_EQ(two->info.draft.machine, "pacs");
  EXPECT_EQ(two->info.draft.message, "number 2");
  EXPECT_EQ(two->info.draft.texts.at("config"), "cpus = 2\n");
  EXPECT_EQ(two->info.draft.figures.at("pause_ns"), 1002u);
  EXPECT_EQ(two->chunks - two->known_chunks, 2u) << "what changed";
  ExpectReads(*target_, As(first_, one->info.id));
  ExpectReads(*target_, As(second_, two->info.id));
  ExpectWhole(*target_, 2);
  ASSERT_THAT(target_->Holds().value(), SizeIs(1));
  EXPECT_EQ(target_->Holds()->at(0).snapshot, two->info.id);
  EXPECT_EQ(target_->Holds()->at(0).reason, "it is copied");
}

TEST_P(StoreRewriteTest, OnceMoreItIsThereAndOnlyHoldsAreAdded) {
  const Result<CopyReport> first = RewriteSnapshot(*source_, *target_, second_.id);
  ASSERT_TRUE(first.ok()) << MessageOf(first);
  EXPECT_EQ(first->holds, 1u);
  EXPECT_EQ(first->info.parent, std::nullopt) << "its parent is not there";
  ASSERT_TRUE(source_->AddHold(second_.id, RealtimeNs() + 1'000'000'000'000, "another").ok());
  const Result<CopyReport> again = RewriteSnapshot(*source_, *target_, second_.id);
  ASSERT_TRUE(again.ok()) << MessageOf(again);
  EXPECT_TRUE(again->was_there);
  EXPECT_EQ(again->info.id, first->info.id);
  EXPECT_EQ(again->holds, 1u);
  EXPECT_THAT(target_->List().value(), SizeIs(1));
}

TEST_P(StoreRewriteTest, InterruptedAnywhereNothingOfItStays) {
  for (int looks = 0;; ++looks) {
    int left = looks;
    const Result<CopyReport> report =
        RewriteSnapshot(*source_, *target_, second_.id, {.stopped = [&] { return left-- == 0; }});
    if (report.ok()) {
      EXPECT_GT(looks, 3);
      break;
    }
    EXPECT_EQ(report.error().code(), ErrorCode::kCancelled);
    ASSERT_THAT(target_->List().value(), IsEmpty());
  }
  ExpectWhole(*target_, 1);
}

TEST_P(StoreRewriteTest, EachFailureOfTheTargetLeavesNothingAndTheNextOneSucceeds) {
  for (uint64_t call = 0;; ++call) {
    target_files_->FailAfter(call, ENOSPC);
    const Result<CopyReport> report = RewriteSnapshot(*source_, *target_, first_.id);
    const bool failed = target_files_->failed();
    target_files_->FailAfter(1'000'000'000, 0);
    if (!failed) {
      ASSERT_TRUE(report.ok()) << MessageOf(report);
      break;
    }
    const auto there = target_->List();
    ASSERT_TRUE(there.ok()) << MessageOf(there);
    if (!there->empty()) {
      break;  // committed: it failed behind that
    }
  }
  const Result<CopyReport> report = RewriteSnapshot(*source_, *target_, first_.id);
  ASSERT_TRUE(report.ok()) << MessageOf(report);
  ExpectReads(*target_, As(first_, report->info.id));
  ExpectWhole(*target_, 1);
}

TEST_P(StoreRewriteTest, DamageOfTheSourceIsNamedAndNotCopied) {
  const std::string pack = "packs/00000001.pack";
  for (size_t byte = 100; byte < source_files_->Bytes(pack).size(); byte += 64) {
    source_files_->FlipBit(pack, byte, 3);
  }
  const auto damaged = OpenTuned(source_files_);
  const Result<CopyReport> report = RewriteSnapshot(*damaged, *target_, second_.id);
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message(), HasSubstr(pack));
  EXPECT_THAT(target_->List().value(), IsEmpty());
}

}  // namespace
}  // namespace pacsvisor
