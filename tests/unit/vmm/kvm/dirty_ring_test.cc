#include "vmm/kvm/dirty_ring.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace pacsvisor {
namespace {

constexpr uint32_t kRingSize = 64;

// KVM's side, as virt/kvm/dirty_ring.c does it: fills whatever the room, counts on.
class KernelRing {
 public:
  std::span<kvm_dirty_gfn> entries() { return entries_; }
  void Push(uint64_t offset) {
    kvm_dirty_gfn& entry = entries_[dirty_++ % kRingSize];
    entry.slot = 1;
    entry.offset = offset;
    entry.flags = KVM_DIRTY_GFN_F_DIRTY;
  }
  uint64_t Reset(uint64_t most = ~uint64_t{0}) {
    uint64_t count = 0;
    while (count < most && (entries_[reset_ % kRingSize].flags & KVM_DIRTY_GFN_F_RESET) != 0) {
      entries_[reset_++ % kRingSize].flags = 0;
      ++count;
    }
    return count;
  }
  uint64_t used() const { return dirty_ - reset_; }

 private:
  std::vector<kvm_dirty_gfn> entries_ = std::vector<kvm_dirty_gfn>(kRingSize);
  uint64_t dirty_ = 0;
  uint64_t reset_ = 0;
};

class DirtyRingTest : public testing::Test {
 protected:
  KernelRing kernel_;
  DirtyRing ring_{kernel_.entries()};
  std::vector<DirtyRingPage> pages_;
};

TEST_F(DirtyRingTest, MovesEveryEntryOnceAndInOrder) {
  std::mt19937_64 random(5);
  uint64_t pushed = 0;
  uint64_t seen = 0;
  for (int round = 0; round < 2000; ++round) {
    for (uint64_t n = random() % 40; n > 0 && kernel_.used() < kRingSize - 1; --n) {
      kernel_.Push(pushed++);
    }
    pages_.clear();
    ASSERT_TRUE(ring_.Collect(pages_));
    for (const DirtyRingPage& page : pages_) {
      ASSERT_EQ(page, (DirtyRingPage{1, seen++}));
    }
    ASSERT_EQ(seen, pushed);
    ASSERT_EQ(ring_.CountOutstanding(), kernel_.used());
    kernel_.Reset(random() % 40);  // cut short, too
    ASSERT_EQ(ring_.CountOutstanding(), kernel_.used());
  }
}

TEST_F(DirtyRingTest, TellsWhenEveryEntryWasInUse) {
  for (uint64_t i = 0; i < kRingSize; ++i) {
    kernel_.Push(i);
  }
  EXPECT_FALSE(ring_.Collect(pages_));
  EXPECT_EQ(pages_.size(), kRingSize);
}

TEST_F(DirtyRingTest, TellsWhenEntriesWereInUseThatWaitForTheirReset) {
  for (uint64_t i = 0; i < 40; ++i) {
    kernel_.Push(i);
  }
  EXPECT_TRUE(ring_.Collect(pages_));
  for (uint64_t i = 40; i < kRingSize + 10; ++i) {  // over ten of them
    kernel_.Push(i);
  }
  EXPECT_FALSE(ring_.Collect(pages_));
}

// KVM has counted what it wrote over: it goes on further along, and only takes back in order.
TEST_F(DirtyRingTest, KeepsUpWithKvmAfterAnOverrun) {
  for (uint64_t overrun = 0; overrun < kRingSize / 2; ++overrun) {
    KernelRing kernel;
    DirtyRing ring(kernel.entries());
    for (uint64_t i = 0; i < kRingSize + overrun; ++i) {
      kernel.Push(i);
    }
    pages_.clear();
    EXPECT_FALSE(ring.Collect(pages_));
    kernel.Reset();
    EXPECT_EQ(ring.CountOutstanding(), 0u);
    uint64_t pushed = 1000;
    uint64_t seen = 1000;
    for (int round = 0; round < 100; ++round) {
      for (uint64_t n = 0; n < 20 && kernel.used() < kRingSize - 1; ++n) {
        kernel.Push(pushed++);
      }
      pages_.clear();
      ASSERT_TRUE(ring.Collect(pages_) || round == 0) << overrun;
      for (const DirtyRingPage& page : pages_) {
        ASSERT_EQ(page, (DirtyRingPage{1, seen++})) << overrun;
      }
      kernel.Reset();
    }
    ASSERT_GT(seen, 1000u) << overrun;
    ASSERT_EQ(seen, pushed) << overrun;
    ASSERT_EQ(kernel.used(), 0u) << overrun;
  }
}

}  // namespace
}  // namespace pacsvisor
