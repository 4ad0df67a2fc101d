#include "vmm/dirty/dirty_bitmap.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace pacsvisor {
namespace {

using Words = std::vector<uint64_t>;

Words Take(DirtyBitmap& bitmap) {
  Words words(bitmap.word_count());
  bitmap.TakeInto(words);
  return words;
}

std::set<uint64_t> BlocksOf(const Words& words, uint64_t block_count) {
  std::set<uint64_t> blocks;
  for (const Extent& extent : ExtentsOf(words, block_count)) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      EXPECT_TRUE(blocks.insert(extent.first.raw() + i).second);
    }
  }
  return blocks;
}

class DirtyBitmapTest : public testing::TestWithParam<uint64_t> {};

TEST_P(DirtyBitmapTest, AgreesWithASetUnderRandomMarksTakesAndReturns) {
  const uint64_t block_count = GetParam();
  std::mt19937_64 random(block_count);
  DirtyBitmap bitmap(block_count);
  std::set<uint64_t> model;
  for (int step = 0; step < 2000; ++step) {
    const uint64_t first = random() % block_count;
    const uint64_t count = random() % std::min<uint64_t>(block_count - first, 200) + 1;
    switch (random() % 8) {
      case 0: {
        const Words words = Take(bitmap);
        ASSERT_EQ(BlocksOf(words, block_count), model);
        if (random() % 2 == 0) {
          model.clear();
        } else {
          bitmap.Return(words);
        }
        break;
      }
      case 1:
      case 2:
        bitmap.MarkRange(BlockIndex(first), count);
        for (uint64_t i = 0; i < count; ++i) {
          model.insert(first + i);
        }
        break;
      default:
        bitmap.Mark(BlockIndex(first));
        model.insert(first);
        break;
    }
    ASSERT_EQ(bitmap.CountMarked(), model.size());
    ASSERT_EQ(bitmap.IsMarked(BlockIndex(first)), model.contains(first));
  }
}

TEST_P(DirtyBitmapTest, MarkAllMarksEachBlockAndNoneBehindTheEnd) {
  DirtyBitmap bitmap(GetParam());
  bitmap.MarkAll();
  EXPECT_EQ(bitmap.CountMarked(), GetParam());
  EXPECT_EQ(ExtentsOf(Take(bitmap), GetParam()),
            (std::vector<Extent>{{BlockIndex(0), GetParam()}}));
}

INSTANTIATE_TEST_SUITE_P(Sizes, DirtyBitmapTest,
                         testing::Values(1, 2, 63, 64, 65, 127, 128, 129, 1000, 4097));

TEST(DirtyBitmapTakeTest, JoinsWithWhatTheWordsHold) {
  DirtyBitmap bitmap(70);
  bitmap.Mark(BlockIndex(69));
  Words words = {1, 0};
  bitmap.TakeInto(words);
  EXPECT_EQ(words, (Words{1, 1 << 5}));
  EXPECT_EQ(bitmap.CountMarked(), 0u);
}

TEST(DirtyBitmapTakeTest, AnEmptyRangeMarksNothing) {
  DirtyBitmap bitmap(64);
  bitmap.MarkRange(BlockIndex(64), 0);
  EXPECT_EQ(bitmap.CountMarked(), 0u);
}

TEST(DirtyBitmapDeathTest, BlocksOutsideTheSpaceAreABug) {
  DirtyBitmap bitmap(65);
  EXPECT_DEATH(bitmap.Mark(BlockIndex(65)), "of 65");
  EXPECT_DEATH(bitmap.MarkRange(BlockIndex(1), ~uint64_t{0}), "of 65");
  EXPECT_DEATH(bitmap.IsMarked(BlockIndex(65)), "of 65");
  Words short_words(1);
  EXPECT_DEATH(bitmap.TakeInto(short_words), "1 words for 2");
}

TEST(ExtentsTest, RunsAcrossWordsAreOneExtent) {
  const Words words = {uint64_t{1} << 63, ~uint64_t{0}, 1};
  EXPECT_EQ(ExtentsOf(words, 192), (std::vector<Extent>{{BlockIndex(63), 66}}));
}

TEST(ExtentsTest, SingleBitsAreExtentsOfTheirOwn) {
  const Words words = {0b1011'0001};
  EXPECT_EQ(ExtentsOf(words, 64),
            (std::vector<Extent>{{BlockIndex(0), 1}, {BlockIndex(4), 2}, {BlockIndex(7), 1}}));
  EXPECT_TRUE(ExtentsOf(Words(3), 192).empty());
}

TEST(ExtentsDeathTest, ABitBehindTheLastBlockIsABug) {
  const Words words = {uint64_t{1} << 10};
  EXPECT_DEATH(ExtentsOf(words, 10), "bit 10 of 10");
}

// The contract of the header as an oracle: a harvester that copies what it takes ends with the last
// version of every block, whatever writers do meanwhile.
TEST(DirtyBitmapThreadsTest, AHarvesterBesideWritersLosesNoWrite) {
  constexpr uint64_t kBlocks = 256;
  constexpr int kWriters = 3;
  constexpr int kWritesEach = 30'000;
  DirtyBitmap bitmap(kBlocks);
  std::vector<std::atomic<uint64_t>> contents(kBlocks);
  std::vector<uint64_t> copy(kBlocks);
  const auto harvest = [&] {
    for (const uint64_t block : BlocksOf(Take(bitmap), kBlocks)) {
      copy[block] = contents[block].load(std::memory_order_relaxed);
    }
  };
  std::atomic<int> writing = kWriters;
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      std::mt19937_64 random(static_cast<uint64_t>(w));
      for (int i = 0; i < kWritesEach; ++i) {
        const uint64_t block = random() % kBlocks;
        contents[block].store(random(), std::memory_order_relaxed);
        bitmap.Mark(BlockIndex(block));
      }
      --writing;
    });
  }
  while (writing > 0) {
    harvest();
  }
  for (std::thread& writer : writers) {
    writer.join();
  }
  harvest();
  for (uint64_t block = 0; block < kBlocks; ++block) {
    ASSERT_EQ(copy[block], contents[block].load()) << block;
  }
  EXPECT_EQ(bitmap.CountMarked(), 0u);
}

}  // namespace
}  // namespace pacsvisor
