#include "vmm/machine/page_walk.h"

#include <gtest/gtest.h>

namespace pacsvisor {
namespace {

constexpr uint64_t kPresentWritable = 3;
constexpr uint64_t kLarge = 1 << 7;

class PageWalkTest : public testing::Test {
 protected:
  PageWalkTest() {
    registers_.cr0 = (uint64_t{1} << 31) | 1;
    registers_.efer = uint64_t{1} << 10;
    registers_.cr3 = 0x1000;
  }
  void SetEntry(uint64_t table, uint64_t index, uint64_t value) {
    ASSERT_TRUE(memory_->WriteObject(GuestAddress(table + 8 * index), value));
  }

  std::unique_ptr<GuestMemory> memory_ =
      GuestMemory::Create(MemoryLayout::Create(4 * kMiB, 40).value(), MemoryBacking::kAnonymous)
          .value();
  kvm_sregs registers_{};
};

TEST_F(PageWalkTest, FindsASmallPage) {
  SetEntry(0x1000, 1, 0x2000 | kPresentWritable);
  SetEntry(0x2000, 2, 0x3000 | kPresentWritable);
  SetEntry(0x3000, 3, 0x4000 | kPresentWritable);
  SetEntry(0x4000, 4, 0x9000 | kPresentWritable);
  const uint64_t linear = (1ul << 39) | (2ul << 30) | (3ul << 21) | (4ul << 12) | 0x123;
  const PageWalk walk = WalkPages(*memory_, registers_, linear);
  EXPECT_EQ(walk.physical, GuestAddress(0x9123));
  EXPECT_EQ(walk.steps.size(), 4u);
}

TEST_F(PageWalkTest, FindsALargePage) {
  SetEntry(0x1000, 0, 0x2000 | kPresentWritable);
  SetEntry(0x2000, 0, 0x3000 | kPresentWritable);
  SetEntry(0x3000, 1, 0x20'0000 | kPresentWritable | kLarge);
  EXPECT_EQ(WalkPages(*memory_, registers_, 0x20'1234).physical, GuestAddress(0x20'1234));
}

TEST_F(PageWalkTest, WalksFiveLevelsWhenTheyAreOn) {
  registers_.cr4 = uint64_t{1} << 12;
  SetEntry(0x1000, 5, 0x2000 | kPresentWritable);
  SetEntry(0x2000, 0, 0x3000 | kPresentWritable);
  SetEntry(0x3000, 0, 0x4000'0000 | kPresentWritable | kLarge);
  const PageWalk walk = WalkPages(*memory_, registers_, (5ul << 48) | 0x77);
  EXPECT_EQ(walk.physical, GuestAddress(0x4000'0077));
}

TEST_F(PageWalkTest, SaysWhereAnAddressIsNotMapped) {
  SetEntry(0x1000, 0, 0x2000 | kPresentWritable);
  const PageWalk walk = WalkPages(*memory_, registers_, 0x5000);
  EXPECT_FALSE(walk.physical.has_value());
  EXPECT_EQ(walk.ending, "not present");
  EXPECT_EQ(walk.steps.size(), 2u);
}

TEST_F(PageWalkTest, EndsAtATableOutsideMemory) {
  SetEntry(0x1000, 0, 0x7fff'f000 | kPresentWritable);
  const PageWalk walk = WalkPages(*memory_, registers_, 0x5000);
  EXPECT_FALSE(walk.physical.has_value());
  EXPECT_NE(walk.ending.find("outside memory"), std::string::npos);
}

}  // namespace
}  // namespace pacsvisor
