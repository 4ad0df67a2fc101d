#include "vmm/cli/progress_bar.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "vmm/cli/byte_count.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr uint64_t kMs = 1'000'000;
constexpr size_t kWide = 200;

TEST(ByteCount, HasThreeDigits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "0.98 KiB");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(12'900'000), "12.3 MiB");
  EXPECT_EQ(FormatBytes(120ul << 30), "120 GiB");
  EXPECT_EQ(FormatBytes((1ul << 40) - 1), "1.00 TiB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "16.0 EiB");
}

TEST(ProgressLine, TellsShareBytesRateAndTimeLeft) {
  EXPECT_EQ(ProgressLine("copying", 1ul << 30, 4ul << 30, 512ul << 20, kWide),
            "copying  [###---------]  25%  1.00 GiB of 4.00 GiB  512 MiB/s  6 s left");
  EXPECT_EQ(ProgressLine("copying", 4ul << 30, 4ul << 30, 512ul << 20, kWide),
            "copying  [############] 100%  4.00 GiB of 4.00 GiB  512 MiB/s");
}

TEST(ProgressLine, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(ProgressLine("pausing", 0, 0, 0, kWide), "pausing");
  EXPECT_EQ(ProgressLine("writing", 1024, 0, 0, kWide), "writing  1.00 KiB");
  EXPECT_EQ(ProgressLine("writing", 0, 1024, 0, kWide),
            "writing  [------------]   0%  0 B of 1.00 KiB");
  // A forecast of a year is none.
  EXPECT_THAT(ProgressLine("writing", 1, 1ul << 40, 1, kWide), Not(HasSubstr("left")));
}

TEST(ProgressLine, MoreThanAllIsAll) {
  EXPECT_THAT(ProgressLine("copying", 2048, 1024, 0, kWide), HasSubstr("] 100%"));
}

TEST(ProgressLine, FitsTheTerminal) {
  for (size_t width = 0; width < 100; ++width) {
    EXPECT_LE(ProgressLine("copying", 1ul << 30, 4ul << 30, 512ul << 20, width).size(), width);
  }
  EXPECT_EQ(ProgressLine("committing", 999ul << 20, 100ul << 30, 100ul << 20, 80),
            "committing  [------------]   1%  999 MiB of 100 GiB  100 MiB/s  16m54s left");
}

TEST(ProgressLine, IsNotCutWithinANumber) {
  EXPECT_EQ(ProgressLine("copying", 1ul << 30, 4ul << 30, 512ul << 20, 52),
            "copying  [###---------]  25%  1.00 GiB of 4.00 GiB");
}

class ProgressBarTest : public testing::Test {
 protected:
  uint64_t now_ns_ = 5'000 * kMs;
  std::vector<std::string> written_;
  ProgressBar bar_{[this](std::string_view text) { written_.emplace_back(text); }, 80,
                   [this] { return now_ns_; }};
};

TEST_F(ProgressBarTest, WhatTakesLessThanASecondShowsNothing) {
  for (uint64_t done = 0; done < 10; ++done) {
    bar_.Show("copying", done, 10);
    now_ns_ += 99 * kMs;
  }
  bar_.Clear();
  EXPECT_THAT(written_, IsEmpty());
}

TEST_F(ProgressBarTest, IsWrittenOverAndTakenAway) {
  now_ns_ += 2'000 * kMs;
  bar_.Show("copying", 50, 100);
  now_ns_ += 1'000 * kMs;
  bar_.Show("copying", 75, 100);
  bar_.Clear();
  bar_.Clear();
  ASSERT_THAT(written_, SizeIs(3));
  EXPECT_THAT(written_[0], HasSubstr("\r\x1b[Kcopying"));
  EXPECT_THAT(written_[1], EndsWith("75 B of 100 B  25 B/s  1 s left"));
  EXPECT_EQ(written_[2], "\r\x1b[K");
}

TEST_F(ProgressBarTest, IsNotDrawnMoreThanTenTimesASecond) {
  now_ns_ += 2'000 * kMs;
  for (uint64_t done = 0; done < 1'000; ++done) {
    bar_.Show("copying", done, 1'000);
    now_ns_ += kMs;
  }
  EXPECT_THAT(written_, SizeIs(10));
}

TEST_F(ProgressBarTest, APhaseHasARateOfItsOwn) {
  now_ns_ += 2'000 * kMs;
  bar_.Show("copying", 1'000'000, 1'000'000);
  bar_.Show("writing", 50, 1'000);  // at once, though it was drawn just now
  now_ns_ += 1'000 * kMs;
  bar_.Show("writing", 150, 1'000);
  ASSERT_THAT(written_, SizeIs(3));
  EXPECT_THAT(written_[2], HasSubstr("  100 B/s  8 s left"));
}

TEST(ProgressBarWithoutTerminal, ShowsNothing) {
  uint64_t now_ns = 0;
  ProgressBar bar(nullptr, 80, [&] { return now_ns += 5'000 * kMs; });
  bar.Show("copying", 1, 2);
  bar.Clear();
}

}  // namespace
}  // namespace pacsvisor
