#include "vmm/disk/in_flight_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <set>

namespace pacsvisor {
namespace {

BlockRequest Make(BlockOperation operation, uint64_t first_sector, uint64_t sectors) {
  return {.operation = operation,
          .offset_bytes = first_sector * kSectorSizeBytes,
          .size_bytes = sectors * kSectorSizeBytes};
}

std::vector<BlockRequest*> Finish(InFlightTable& table, BlockRequest& request) {
  std::vector<BlockRequest*> released;
  table.Finish(request, released);
  return released;
}

TEST(InFlightTable, ReadsOfTheSameBytesRunTogether) {
  InFlightTable table(512);
  BlockRequest first = Make(BlockOperation::kRead, 0, 8);
  BlockRequest second = Make(BlockOperation::kRead, 4, 8);
  EXPECT_TRUE(table.Admit(first));
  EXPECT_TRUE(table.Admit(second));
}

TEST(InFlightTable, ReadWaitsForAnUnfinishedWrite) {
  InFlightTable table(512);
  BlockRequest write = Make(BlockOperation::kWrite, 0, 8);
  BlockRequest read = Make(BlockOperation::kRead, 7, 1);
  EXPECT_TRUE(table.Admit(write));
  EXPECT_FALSE(table.Admit(read));
  EXPECT_EQ(Finish(table, write), std::vector<BlockRequest*>{&read});
}

TEST(InFlightTable, WriteWaitsForAnUnfinishedRead) {
  InFlightTable table(512);
  BlockRequest read = Make(BlockOperation::kRead, 0, 8);
  BlockRequest write = Make(BlockOperation::kWrite, 7, 4);
  EXPECT_TRUE(table.Admit(read));
  EXPECT_FALSE(table.Admit(write));
  EXPECT_EQ(Finish(table, read), std::vector<BlockRequest*>{&write});
}

TEST(InFlightTable, NeighboursDoNotWait) {
  InFlightTable table(512);
  BlockRequest low = Make(BlockOperation::kWrite, 0, 8);
  BlockRequest high = Make(BlockOperation::kDiscard, 8, 8);
  EXPECT_TRUE(table.Admit(low));
  EXPECT_TRUE(table.Admit(high));
}

TEST(InFlightTable, NeighboursInOneUnitOfTheGranularityWait) {
  InFlightTable table(4096);
  BlockRequest low = Make(BlockOperation::kWrite, 0, 1);
  BlockRequest high = Make(BlockOperation::kWrite, 7, 1);
  EXPECT_TRUE(table.Admit(low));
  EXPECT_FALSE(table.Admit(high));
}

TEST(InFlightTable, FlushWaitsForNothingAndHoldsNothingUp) {
  InFlightTable table(512);
  BlockRequest write = Make(BlockOperation::kWrite, 0, 8);
  BlockRequest flush = Make(BlockOperation::kFlush, 0, 0);
  BlockRequest elsewhere = Make(BlockOperation::kWrite, 8, 8);
  EXPECT_TRUE(table.Admit(write));
  EXPECT_TRUE(table.Admit(flush));
  EXPECT_TRUE(table.Admit(elsewhere));
}

TEST(InFlightTable, ReleasesInTheOrderOfAdmission) {
  InFlightTable table(512);
  BlockRequest wide = Make(BlockOperation::kWriteZeroes, 0, 100);
  std::deque<BlockRequest> narrow;
  ASSERT_TRUE(table.Admit(wide));
  std::vector<BlockRequest*> expected;
  for (uint64_t i = 0; i < 10; ++i) {
    narrow.push_back(Make(BlockOperation::kRead, 90 - i * 10, 4));
    EXPECT_FALSE(table.Admit(narrow.back()));
    expected.push_back(&narrow.back());
  }
  EXPECT_EQ(table.waiting(), 10u);
  EXPECT_EQ(Finish(table, wide), expected);
  EXPECT_EQ(table.waiting(), 0u);
}

// The oracle: a request may run when no older unfinished one conflicts with it, byte by byte.
class Oracle {
 public:
  void Admit(const BlockRequest& request) { unfinished_.push_back(&request); }
  void Finish(const BlockRequest& request) {
    unfinished_.erase(std::find(unfinished_.begin(), unfinished_.end(), &request));
  }
  bool MayRun(const BlockRequest& request) const {
    for (const BlockRequest* other : unfinished_) {
      if (other == &request) {
        return true;
      }
      const bool touch = other->offset_bytes < request.offset_bytes + request.size_bytes &&
                         request.offset_bytes < other->offset_bytes + other->size_bytes;
      if (touch && (ChangesDisk(other->operation) || ChangesDisk(request.operation))) {
        return false;
      }
    }
    return true;
  }

 private:
  std::vector<const BlockRequest*> unfinished_;
};

TEST(InFlightTable, RunsExactlyWhatTheOracleAllows) {
  constexpr BlockOperation kOperations[] = {BlockOperation::kRead, BlockOperation::kWrite,
                                            BlockOperation::kFlush, BlockOperation::kDiscard,
                                            BlockOperation::kWriteZeroes};
  std::mt19937 random(7);
  InFlightTable table(512);
  Oracle oracle;
  std::deque<BlockRequest> requests;
  std::vector<BlockRequest*> running;
  std::set<BlockRequest*> waiting;
  for (int step = 0; step < 20000; ++step) {
    if (running.empty() || (random() % 2 == 0 && running.size() + waiting.size() < 40)) {
      const BlockOperation operation = kOperations[random() % 5];
      const bool flush = operation == BlockOperation::kFlush;
      requests.push_back(Make(operation, flush ? 0 : random() % 64, flush ? 0 : 1 + random() % 16));
      BlockRequest& request = requests.back();
      oracle.Admit(request);
      const bool runs = table.Admit(request);
      ASSERT_EQ(runs, oracle.MayRun(request)) << step;
      runs ? running.push_back(&request) : (void)waiting.insert(&request);
    } else {
      std::swap(running[random() % running.size()], running.back());
      BlockRequest& request = *running.back();
      running.pop_back();
      oracle.Finish(request);
      for (BlockRequest* released : Finish(table, request)) {
        ASSERT_EQ(waiting.erase(released), 1u);
        running.push_back(released);
      }
    }
    ASSERT_EQ(table.waiting(), waiting.size());
    for (const BlockRequest* request : waiting) {
      ASSERT_FALSE(oracle.MayRun(*request)) << step;
    }
    for (const BlockRequest* request : running) {
      ASSERT_TRUE(oracle.MayRun(*request)) << step;
    }
  }
}

}  // namespace
}  // namespace pacsvisor
