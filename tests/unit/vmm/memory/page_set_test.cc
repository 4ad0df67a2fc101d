#include "vmm/memory/page_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace pacsvisor {
namespace {

constexpr uint64_t kSetPages = 333;  // the last word is not full

Extent Pages(uint64_t first, uint64_t count) { return {BlockIndex(first), count}; }

// The first run of pages for which `in` holds.
template <typename In>
std::optional<Extent> ExpectedRun(uint64_t from, uint64_t end, uint64_t max_pages, In&& in) {
  while (from < end && !in(from)) {
    ++from;
  }
  if (from >= end) {
    return std::nullopt;
  }
  uint64_t count = 1;
  while (count < max_pages && from + count < end && in(from + count)) {
    ++count;
  }
  return Pages(from, count);
}

TEST(PageSetTest, HoldsWhatASetHolds) {
  std::mt19937_64 random(3);
  PageSet pages(kSetPages);
  std::set<uint64_t> expected;
  for (int step = 0; step < 3000; ++step) {
    const uint64_t first = random() % (kSetPages + 1);
    const uint64_t count = random() % std::min(kSetPages - first + 1, uint64_t{150});
    if (random() % 2 == 0) {
      pages.Add(Pages(first, count));
      for (uint64_t page = first; page < first + count; ++page) {
        expected.insert(page);
      }
    } else {
      pages.Remove(Pages(first, count));
      for (uint64_t page = first; page < first + count; ++page) {
        expected.erase(page);
      }
    }
    ASSERT_EQ(pages.size(), expected.size());
    ASSERT_EQ(pages.full(), expected.size() == kSetPages);
    const uint64_t end = random() % (kSetPages + 1);
    const uint64_t from = random() % (kSetPages + 1);
    const uint64_t max_pages = 1 + random() % 200;
    const auto in = [&](uint64_t page) { return expected.contains(page); };
    const auto out = [&](uint64_t page) { return !expected.contains(page); };
    ASSERT_EQ(pages.NextRun(from, end, max_pages), ExpectedRun(from, end, max_pages, in));
    ASSERT_EQ(pages.NextGap(from, end, max_pages), ExpectedRun(from, end, max_pages, out));
    for (uint64_t page = 0; page < kSetPages; ++page) {
      ASSERT_EQ(pages.Contains(BlockIndex(page)), expected.contains(page)) << page;
    }
  }
}

TEST(PageSetTest, WholeWordsAndTheLastPageAreHeld) {
  PageSet pages(128);
  pages.Add(Pages(0, 128));
  EXPECT_TRUE(pages.full());
  EXPECT_EQ(pages.NextGap(0, 128, 128), std::nullopt);
  pages.Remove(Pages(127, 1));
  EXPECT_EQ(pages.NextGap(0, 128, 128), Pages(127, 1));
  EXPECT_EQ(pages.NextRun(0, 128, 128), Pages(0, 127));
}

TEST(PageSetDeathTest, PagesOutsideTheSpaceAreABug) {
  PageSet pages(kSetPages);
  EXPECT_DEATH(pages.Add(Pages(kSetPages - 1, 2)), "of 333");
  EXPECT_DEATH((void)pages.Contains(BlockIndex(kSetPages)), "of 333");
}

}  // namespace
}  // namespace pacsvisor
