#include "vmm/dirty/dirty_tracker.h"

#include <gtest/gtest.h>

#include <vector>

namespace pacsvisor {
namespace {

constexpr uint64_t kBlockCount = 100;

// Reports what the test says, or fails half-way.
class FakeSource : public DirtySource {
 public:
  std::string_view name() const override { return "fake"; }
  Status Start() override { return fails ? Failure() : Status(); }
  void Stop() override { ++stops; }
  Status Harvest(std::span<uint64_t> words) override {
    words[0] |= written;
    written = 0;
    return fails ? Failure() : Status();
  }

  uint64_t written = 0;
  bool fails = false;
  int stops = 0;

 private:
  static Status Failure() { return Error::Make(ErrorCode::kIo, "a failure"); }
};

class DirtyTrackerTest : public testing::Test {
 protected:
  DirtyTrackerTest() {
    auto source = std::make_unique<FakeSource>();
    source_ = source.get();
    tracker_ = std::make_unique<DirtyTracker>(marks_, std::move(source));
  }

  DirtyBitmap marks_{kBlockCount};
  FakeSource* source_;
  std::unique_ptr<DirtyTracker> tracker_;
  std::vector<uint64_t> words_ = std::vector<uint64_t>(2);
};

TEST_F(DirtyTrackerTest, JoinsTheVmmsMarksWithTheSource) {
  ASSERT_TRUE(tracker_->Start().ok());
  source_->written = 0b100;
  marks_.Mark(BlockIndex(70));
  words_[0] = 1;  // what the caller holds stays
  ASSERT_TRUE(tracker_->Harvest(words_).ok());
  EXPECT_EQ(words_, (std::vector<uint64_t>{0b101, 1 << 6}));
  words_.assign(2, 0);
  ASSERT_TRUE(tracker_->HarvestPaused(words_).ok());
  EXPECT_EQ(words_, std::vector<uint64_t>(2));
}

TEST_F(DirtyTrackerTest, GivesWhatWasReturnedOnceMore) {
  ASSERT_TRUE(tracker_->Start().ok());
  marks_.Mark(BlockIndex(7));
  ASSERT_TRUE(tracker_->Harvest(words_).ok());
  tracker_->Return(words_);
  std::vector<uint64_t> again(2);
  ASSERT_TRUE(tracker_->Harvest(again).ok());
  EXPECT_EQ(again, words_);
}

TEST_F(DirtyTrackerTest, LosesNothingWhenTheSourceFailsHalfWay) {
  ASSERT_TRUE(tracker_->Start().ok());
  source_->written = 0b1000;
  marks_.Mark(BlockIndex(99));
  source_->fails = true;
  EXPECT_FALSE(tracker_->Harvest(words_).ok());
  source_->fails = false;
  std::vector<uint64_t> next(2);
  ASSERT_TRUE(tracker_->Harvest(next).ok());
  EXPECT_EQ(next, (std::vector<uint64_t>{0b1000, uint64_t{1} << 35}));
}

TEST_F(DirtyTrackerTest, IsNotStartedByASourceThatFails) {
  source_->fails = true;
  EXPECT_FALSE(tracker_->Start().ok());
  EXPECT_FALSE(tracker_->started());
  tracker_->Stop();
  EXPECT_EQ(source_->stops, 0);
  source_->fails = false;
  ASSERT_TRUE(tracker_->Start().ok());
  tracker_->Stop();
  EXPECT_EQ(source_->stops, 1);
  EXPECT_FALSE(tracker_->started());
}

}  // namespace
}  // namespace pacsvisor
