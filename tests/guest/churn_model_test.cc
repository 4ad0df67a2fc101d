// The oracle of the killed-VMM tests, on files that the plan's operations made in memory.
#include "tests/guest/churn/churn_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace pacsvisor::churn {
namespace {

constexpr uint64_t kSeed = 3;
constexpr uint32_t kWorker = 1;
constexpr uint32_t kFile = 2;

using Bytes = std::vector<uint8_t>;

void Apply(uint64_t number, Bytes& bytes) {
  const Operation operation = OperationAt(kSeed, kWorker, number);
  const bool writes = operation.kind == Kind::kWrite || operation.kind == Kind::kDirectWrite;
  if (operation.file != kFile || (!writes && !Zeroes(operation.kind))) {
    return;
  }
  for (uint32_t i = 0; i < operation.cell_count; ++i) {
    const uint32_t cell = operation.first_cell + i;
    const Cell words = writes ? CellOf(kSeed, kWorker, kFile, cell, number) : Cell{};
    std::memcpy(bytes.data() + size_t{cell} * kCellBytes, words.data(), kCellBytes);
  }
}

bool IsFlush(uint64_t number) {
  const Operation operation = OperationAt(kSeed, kWorker, number);
  return operation.kind == Kind::kFlush && operation.file == kFile;
}

class ChurnModel : public testing::Test {
 protected:
  // Runs on until `flushes` more of the file are reported.
  void Run(int flushes) {
    while (flushes > 0) {
      Apply(next_, bytes_);
      if (IsFlush(next_)) {
        model_.Feed("churn flushed 1 " + std::to_string(next_));
        --flushes;
      }
      ++next_;
    }
  }
  std::vector<std::string> Check(const Bytes& bytes) const {
    return model_.Check(kWorker, kFile, bytes);
  }

  Model model_{kSeed};
  Bytes bytes_ = Bytes(size_t{kFileCells} * kCellBytes);
  uint64_t next_ = 0;
};

TEST_F(ChurnModel, TakesWhatWasFlushedAndWhatCameLater) {
  Run(20);
  EXPECT_THAT(Check(bytes_), testing::IsEmpty());
  for (int i = 0; i < 30; ++i) {
    Apply(next_++, bytes_);
    ASSERT_THAT(Check(bytes_), testing::IsEmpty()) << next_;
  }
}

TEST_F(ChurnModel, FindsAFlushedOperationThatIsMissing) {
  Run(20);
  const Bytes before = bytes_;
  Run(1);
  ASSERT_NE(before, bytes_);
  EXPECT_THAT(Check(before), testing::Not(testing::IsEmpty()));
}

TEST_F(ChurnModel, FindsATornCellAndAStrayOne) {
  Run(20);
  for (uint32_t cell = 0; cell < kFileCells; ++cell) {
    const size_t at = size_t{cell} * kCellBytes;
    Bytes torn = bytes_;
    torn[at + 300] ^= 1;
    ASSERT_EQ(Check(torn).size(), 1u);
  }
}

TEST_F(ChurnModel, DoesNotTakeHalfALineForAReport) {
  Run(3);
  model_.Feed("churn flushed 1 12 34");
  model_.Feed("churn flushed 1 x");
  model_.Feed("churn flushed 9 1");
  EXPECT_EQ(model_.flush_count(), 3u);
  EXPECT_EQ(model_.failure(), "");
}

}  // namespace
}  // namespace pacsvisor::churn
