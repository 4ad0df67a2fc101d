// Snapshots of a machine whose guest's own data is brought to rest for the instant.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/memory_store_files.h"
#include "tests/unit/vmm/snapshot/fake_subject.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor::snapshot_test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Key;
using testing::Not;
using testing::Pair;

constexpr uint64_t kQuiescedPages = 300;

class FakeQuiescer : public Quiescer {
 public:
  explicit FakeQuiescer(std::vector<std::string>& calls) : calls_(calls) {}

  Status Freeze() override {
    calls_.push_back("freeze");
    if (on_freeze) {
      on_freeze();
    }
    return frozen;
  }
  Status Thaw() override {
    calls_.push_back("thaw");
    return thawed;
  }

  std::function<void()> on_freeze;
  Status frozen;
  Status thawed;

 private:
  std::vector<std::string>& calls_;
};

class QuietObserver : public CaptureObserver {
 public:
  void OnProgress(CapturePhase, uint64_t, uint64_t) override {}
  bool cancelled() const override { return is_cancelled; }

  bool is_cancelled = false;
};

class QuiescedSnapshotTest : public testing::Test {
 protected:
  QuiescedSnapshotTest() {
    EXPECT_TRUE(Store::Create(*files_).ok());
    store_ = Store::Open(files_).value();
    taker_ = std::make_unique<SnapshotTaker>(subject_, *store_);
    subject_.before_instant = [this] { calls_.push_back("pause"); };
    subject_.after_instant = [this] { calls_.push_back("go on"); };
  }
  Result<TakenSnapshot> Take() { return taker_->Take(order_, observer_); }

  std::shared_ptr<MemoryStoreFiles> files_ = MemoryStoreFiles::Create();
  FakeSubject subject_{kQuiescedPages};
  std::unique_ptr<Store> store_;
  std::unique_ptr<SnapshotTaker> taker_;
  std::vector<std::string> calls_;
  FakeQuiescer quiescer_{calls_};
  SnapshotOrder order_{.machine = "pacs", .quiescer = &quiescer_};
  QuietObserver observer_;
};

TEST_F(QuiescedSnapshotTest, StandsStillFromBeforeThePauseToDirectlyAfterIt) {
  const TakenSnapshot taken = Take().value();
  EXPECT_THAT(calls_, ElementsAre("freeze", "pause", "go on", "thaw"));
  EXPECT_EQ(taken.info.draft.consistency, "quiesced");
  EXPECT_THAT(taken.info.draft.texts, Not(Contains(Key(kNotQuiesced))));
  EXPECT_THAT(taken.info.draft.figures, Contains(Key("freeze_ns")));
  EXPECT_LE(taken.info.draft.figures.at("freeze_ns"), taken.info.draft.figures.at("frozen_ns"));
}

TEST_F(QuiescedSnapshotTest, WhatTheGuestWritesWhileItIsFrozenIsNotLeftToThePause) {
  ASSERT_TRUE(Take().ok());
  quiescer_.on_freeze = [this] {
    for (uint64_t page = 0; page < 200; ++page) {
      subject_.GuestWrites(page, 7);
    }
  };
  const TakenSnapshot taken = Take().value();
  EXPECT_EQ(taken.info.draft.figures.at("residue_pages"), 0u);
  const auto reader = store_->OpenSnapshot(taken.info.id).value();
  std::vector<uint8_t> memory(subject_.memory_at_instant.size());
  ASSERT_TRUE(reader->Read(0, BlockIndex(0), memory).ok());
  EXPECT_TRUE(memory == subject_.memory_at_instant);
}

TEST_F(QuiescedSnapshotTest, FreezeThatFailsLeavesOneAsAfterAPowerCutThatSaysWhy) {
  quiescer_.frozen = Error::Make(ErrorCode::kTimeout, "no answer");
  const TakenSnapshot taken = Take().value();
  EXPECT_THAT(calls_, ElementsAre("freeze", "pause", "go on", "thaw"));
  EXPECT_EQ(taken.info.draft.consistency, "crash");
  EXPECT_THAT(taken.info.draft.texts, Contains(Pair(kNotQuiesced, "no answer")));
}

TEST_F(QuiescedSnapshotTest, ThawThatFailsIsRecorded) {
  quiescer_.thawed = Error::Make(ErrorCode::kTimeout, "frozen still");
  const TakenSnapshot taken = Take().value();
  EXPECT_EQ(taken.info.draft.consistency, "quiesced");
  EXPECT_THAT(taken.info.draft.texts, Contains(Pair(kNotThawed, "frozen still")));
}

TEST_F(QuiescedSnapshotTest, ThawsWhateverBecomesOfTheSnapshot) {
  subject_.fail_state = true;
  EXPECT_FALSE(Take().ok());
  EXPECT_THAT(calls_, ElementsAre("freeze", "pause", "go on", "thaw"));
  calls_.clear();
  subject_.fail_state = false;
  quiescer_.on_freeze = [this] { observer_.is_cancelled = true; };
  EXPECT_EQ(Take().error().code(), ErrorCode::kCancelled);
  EXPECT_THAT(calls_, ElementsAre("freeze", "thaw"));
}

}  // namespace
}  // namespace pacsvisor::snapshot_test
