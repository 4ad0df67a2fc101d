#include "vmm/memory/compare_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>
#include <set>
#include <vector>

namespace pacsvisor {
namespace {

constexpr uint64_t kMemoryBytes = 4 * kMiB;
constexpr uint64_t kPages = kMemoryBytes / kPageSizeBytes;

class CompareSourceTest : public testing::TestWithParam<MemoryBacking> {
 protected:
  void Put(uint64_t page, uint64_t value) {
    ASSERT_TRUE(
        memory_->WriteObject(GuestAddress(page * kPageSizeBytes + 8 * (page % 512)), value));
  }
  std::set<uint64_t> Take(Status (CompareSource::*harvest)(std::span<uint64_t>)) {
    std::vector<uint64_t> words(memory_->dirty().word_count());
    EXPECT_TRUE((source_.*harvest)(words).ok());
    std::set<uint64_t> pages;
    for (uint64_t page = 0; page < kPages; ++page) {
      if ((words[page / 64] >> (page % 64) & 1) != 0) {
        pages.insert(page);
      }
    }
    return pages;
  }
  std::set<uint64_t> Harvest() { return Take(&CompareSource::Harvest); }
  std::set<uint64_t> HarvestPaused() { return Take(&CompareSource::HarvestPaused); }

  std::unique_ptr<GuestMemory> memory_ =
      GuestMemory::Create(MemoryLayout::Create(kMemoryBytes, 40).value(), GetParam()).value();
  CompareSource source_{*memory_};
};

INSTANTIATE_TEST_SUITE_P(Backings, CompareSourceTest,
                         testing::Values(MemoryBacking::kAnonymous, MemoryBacking::kMemfd),
                         [](const auto& param) {
                           return param.param == MemoryBacking::kMemfd ? "Memfd" : "Anonymous";
                         });

TEST_P(CompareSourceTest, FindsExactlyThePagesThatChanged) {
  std::mt19937_64 random(3);
  Put(5, 1);
  ASSERT_TRUE(source_.Start().ok());
  for (int round = 0; round < 50; ++round) {
    std::set<uint64_t> written;
    for (uint64_t i = 0; i < random() % 40; ++i) {
      const uint64_t page = random() % kPages;
      Put(page, random());
      written.insert(page);
    }
    EXPECT_EQ(HarvestPaused(), written);
  }
}

TEST_P(CompareSourceTest, LeavesOutWhatIsAsBefore) {
  Put(7, 1);
  ASSERT_TRUE(source_.Start().ok());
  Put(7, 2);
  Put(7, 1);
  EXPECT_TRUE(HarvestPaused().empty());
}

// A first copy of all pages, by somebody who met page 7 while it held a 2.
TEST_P(CompareSourceTest, FindsWhatIsNotAsItWasCopiedThoughItIsAsItWasBefore) {
  Put(7, 1);
  Put(8, 1);
  ASSERT_TRUE(source_.Start().ok());
  Put(7, 2);
  std::vector<uint8_t> copy(2 * kPageSizeBytes);
  ASSERT_TRUE(memory_->Read(GuestAddress(7 * kPageSizeBytes), copy));
  source_.Copied(BlockIndex(7), copy);
  Put(7, 1);
  EXPECT_EQ(HarvestPaused(), std::set<uint64_t>{7});
  EXPECT_TRUE(HarvestPaused().empty());
}

// Between the two harvests it was copied while it held the 2.
TEST_P(CompareSourceTest, RepeatsAPageThatMayHaveChangedRoundItsCopy) {
  Put(7, 1);
  ASSERT_TRUE(source_.Start().ok());
  Put(7, 3);
  EXPECT_EQ(Harvest(), std::set<uint64_t>{7});
  Put(7, 2);
  Put(7, 3);
  EXPECT_EQ(Harvest(), std::set<uint64_t>{7});
  EXPECT_EQ(HarvestPaused(), std::set<uint64_t>{7});
  EXPECT_TRUE(HarvestPaused().empty());
}

TEST_P(CompareSourceTest, MarksNothingAndTakesNoMemory) {
  Put(100, 1);
  ASSERT_TRUE(source_.Start().ok());
  Put(200, 1);
  EXPECT_EQ(HarvestPaused(), std::set<uint64_t>{200});
  EXPECT_EQ(memory_->dirty().CountMarked(), 2u);  // the test's
  if (GetParam() == MemoryBacking::kMemfd) {
    struct stat file {};
    ASSERT_EQ(fstat(memory_->memfd(), &file), 0);
    EXPECT_LT(static_cast<uint64_t>(file.st_blocks) * 512, kMemoryBytes);
  }
}

}  // namespace
}  // namespace pacsvisor
