#include "guests/dirtier/pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace pacsvisor::dirtier {
namespace {

RunPlan MakePlan(Pattern pattern, uint64_t pages, uint64_t hot_pages = 0) {
  return {.run = 1,
          .first_page = 100,
          .pages = pages,
          .hot_pages = hot_pages,
          .seed = 7,
          .pattern = pattern,
          .bytes = kPageBytes,
          .reserved = 0};
}

std::vector<RunPlan> PlansOfAllShapes() {
  std::vector<RunPlan> plans;
  for (const uint64_t pages : {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 257}) {
    plans.push_back(MakePlan(Pattern::kSequential, pages));
    plans.push_back(MakePlan(Pattern::kRandom, pages));
    for (const uint64_t hot : {uint64_t{1}, pages / 2, pages - 1}) {
      if (hot > 0 && hot < pages) plans.push_back(MakePlan(Pattern::kHot, pages, hot));
    }
  }
  return plans;
}

// The oracle: replay all writes and remember.
TEST(PatternTest, LastWriteToAgreesWithReplayingEveryWrite) {
  for (const RunPlan& plan : PlansOfAllShapes()) {
    std::map<uint64_t, uint64_t> last;
    const uint64_t writes = 12 * plan.pages + 5;
    for (uint64_t ordinal = 1; ordinal <= writes; ++ordinal) {
      last[PageOfWrite(plan, ordinal)] = ordinal;
      const uint64_t page = plan.first_page + ordinal % plan.pages;
      ASSERT_EQ(LastWriteTo(plan, ordinal, page), last.contains(page) ? last[page] : 0)
          << "pages " << plan.pages << " hot " << plan.hot_pages << " ordinal " << ordinal;
    }
    for (uint64_t page = plan.first_page; page < plan.first_page + plan.pages; ++page) {
      ASSERT_EQ(LastWriteTo(plan, writes, page), last.contains(page) ? last[page] : 0);
    }
  }
}

TEST(PatternTest, WritesStayWithinTheRun) {
  for (const RunPlan& plan : PlansOfAllShapes()) {
    for (uint64_t ordinal = 1; ordinal <= 4 * plan.pages + 40; ++ordinal) {
      const uint64_t page = PageOfWrite(plan, ordinal);
      ASSERT_GE(page, plan.first_page);
      ASSERT_LT(page, plan.first_page + plan.pages);
    }
  }
}

TEST(PatternTest, PagesOutsideTheRunAreNeverWritten) {
  for (const RunPlan& plan : PlansOfAllShapes()) {
    EXPECT_EQ(LastWriteTo(plan, 1'000'000, plan.first_page - 1), 0u);
    EXPECT_EQ(LastWriteTo(plan, 1'000'000, plan.first_page + plan.pages), 0u);
  }
}

TEST(PatternTest, EachRoundOfRandomVisitsEveryPageOnceInAnotherOrder) {
  const RunPlan plan = MakePlan(Pattern::kRandom, 1000);
  std::vector<std::vector<uint64_t>> rounds(2);
  for (uint64_t ordinal = 1; ordinal <= 2000; ++ordinal) {
    rounds[(ordinal - 1) / 1000].push_back(PageOfWrite(plan, ordinal));
  }
  EXPECT_EQ(std::set(rounds[0].begin(), rounds[0].end()).size(), 1000u);
  EXPECT_EQ(std::set(rounds[1].begin(), rounds[1].end()).size(), 1000u);
  EXPECT_NE(rounds[0], rounds[1]);
  EXPECT_FALSE(std::is_sorted(rounds[0].begin(), rounds[0].end()));
}

TEST(PatternTest, NineOfTenHotWritesStayInTheHotSet) {
  const RunPlan plan = MakePlan(Pattern::kHot, 1000, 50);
  uint64_t hot = 0;
  for (uint64_t ordinal = 1; ordinal <= 10'000; ++ordinal) {
    if (PageOfWrite(plan, ordinal) < plan.first_page + plan.hot_pages) ++hot;
  }
  EXPECT_EQ(hot, 9000u);
}

TEST(PatternTest, EveryWriteLeavesContentOfItsOwn) {
  std::set<uint64_t> stamps;
  std::set<uint64_t> second_words;
  for (const uint64_t run : {1, 2}) {
    RunPlan plan = MakePlan(Pattern::kSequential, 10);
    plan.run = run;
    for (uint64_t ordinal = 1; ordinal <= 100; ++ordinal) {
      const PageContent content(plan, PageOfWrite(plan, ordinal), ordinal);
      stamps.insert(content.Word(0));
      second_words.insert(content.Word(1));
    }
  }
  EXPECT_EQ(stamps.size(), 200u);
  EXPECT_EQ(second_words.size(), 200u);
}

TEST(PatternTest, WritePageWritesItsBytesAndNoMore) {
  RunPlan plan = MakePlan(Pattern::kSequential, 10);
  plan.bytes = 64;
  std::vector<uint64_t> words(kWordsPerPage, 0);
  WritePage(plan, 103, 4, words.data());
  for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(words[i], PageContent(plan, 103, 4).Word(i));
  EXPECT_TRUE(std::all_of(words.begin() + 8, words.end(), [](uint64_t w) { return w == 0; }));
}

TEST(PatternTest, FindLastWriterPrefersTheYoungestRunWhateverTheOrderOfRecords) {
  RunRecord records[3] = {};
  records[0] = {MakePlan(Pattern::kSequential, 10), 3};  // pages 100 to 102
  records[0].plan.run = 70;
  records[1] = {MakePlan(Pattern::kSequential, 10), 5};  // pages 100 to 104
  records[1].plan.run = 68;
  records[2] = {MakePlan(Pattern::kSequential, 10), 4};  // pages 100 to 103
  records[2].plan.run = 69;
  EXPECT_EQ(FindLastWriter(records, 3, 100).record, &records[0]);
  EXPECT_EQ(FindLastWriter(records, 3, 103).record, &records[2]);
  EXPECT_EQ(FindLastWriter(records, 3, 104).record, &records[1]);
  EXPECT_EQ(FindLastWriter(records, 3, 104).ordinal, 5u);
  EXPECT_EQ(FindLastWriter(records, 3, 105).record, nullptr);
}

}  // namespace
}  // namespace pacsvisor::dirtier
