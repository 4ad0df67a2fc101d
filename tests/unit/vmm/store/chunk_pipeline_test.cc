// What several threads make of a writer's blocks: the same as one, in bounded memory, and an error
// where one of the steps fails.
#include "vmm/store/chunk_pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/store/store_model.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::MessageOf;
using testing::HasSubstr;

// Calls every block fresh, and keeps what is written.
class KeepingOrder : public ChunkPipeline::Order {
 public:
  Status Decide(ChunkBatch& batch) override {
    if (decided_++ == fails_at_decision) {
      return Error::Make(ErrorCode::kIo, "decision {} failed", fails_at_decision);
    }
    for (BatchItem& item : batch.items()) {
      if (item.fate == BatchItem::Fate::kGiven) {
        item.fate = BatchItem::Fate::kFresh;
      }
    }
    return {};
  }
  Status Write(ChunkBatch& batch) override {
    if (written_++ == fails_at_write) {
      return Error::Make(ErrorCode::kNoSpace, "write {} failed", fails_at_write);
    }
    for (const BatchItem& item : batch.items()) {
      keys.push_back(item.key);
      fates.push_back(item.fate);
      names.push_back(item.chunk.name);
      stored.insert(stored.end(), item.stored.begin(), item.stored.end());
    }
    return {};
  }

  uint64_t fails_at_decision = UINT64_MAX;
  uint64_t fails_at_write = UINT64_MAX;
  std::vector<uint64_t> keys;
  std::vector<BatchItem::Fate> fates;
  std::vector<Hash> names;
  std::vector<uint8_t> stored;

 private:
  uint64_t decided_ = 0;
  uint64_t written_ = 0;
};

constexpr uint64_t kBlocks = 5000;

Status GiveMany(ChunkPipeline& pipeline) {
  for (uint64_t i = 0; i < kBlocks; ++i) {
    if (i % 11 == 5) {
      TRY(pipeline.AddZeroes(0, i, 3));
    } else {
      TRY(pipeline.AddBlock(0, i, BlockOf(i % 7)));
    }
  }
  return pipeline.Flush();
}

class ChunkPipelineTest : public testing::TestWithParam<unsigned> {
 protected:
  ChunkPipeline::Options options() const { return {.workers = GetParam()}; }
  const ChunkCodec codec_{nullptr};
};

TEST_P(ChunkPipelineTest, WhatComesOutIsWhatOneThreadMakesInTheOrderGiven) {
  KeepingOrder order;
  ChunkPipeline pipeline(codec_, order, options());
  const Status given = GiveMany(pipeline);
  ASSERT_TRUE(given.ok()) << MessageOf(given);
  ASSERT_EQ(order.keys.size(), kBlocks);
  ChunkCompressor compressor;
  std::vector<uint8_t> stored;
  for (uint64_t i = 0; i < kBlocks; ++i) {
    ASSERT_EQ(order.keys[i], i);
    const std::vector<uint8_t> block = BlockOf(i % 7);
    const bool zero = i % 11 == 5 || i % 7 == 0;
    ASSERT_EQ(order.fates[i], zero ? BatchItem::Fate::kZero : BatchItem::Fate::kFresh) << i;
    if (!zero) {
      ASSERT_EQ(order.names[i], Sha256(block)) << i;
      const std::span<const uint8_t> packed = compressor.Compress(block);
      stored.insert(stored.end(), packed.begin(), packed.end());
    }
  }
  EXPECT_EQ(order.stored, stored);
}

TEST_P(ChunkPipelineTest, TakesNoMoreMemoryThanItsHeaderSays) {
  KeepingOrder order;
  ChunkPipeline pipeline(codec_, order, options());
  ASSERT_TRUE(GiveMany(pipeline).ok());
  const size_t most = GetParam() == 0 ? 1 : (GetParam() + 1) * kBatchesPerThread;
  EXPECT_LE(pipeline.batches(), most + 1);  // one is being filled
}

TEST_P(ChunkPipelineTest, AStepThatFailsEndsIt) {
  for (const bool at_write : {false, true}) {
    KeepingOrder order;
    (at_write ? order.fails_at_write : order.fails_at_decision) = 20;
    ChunkPipeline pipeline(codec_, order, options());
    const Status given = GiveMany(pipeline);
    ASSERT_FALSE(given.ok());
    EXPECT_THAT(MessageOf(given), HasSubstr("20 failed"));
    EXPECT_LE(order.keys.size(), 20 * kBatchBlocks);
    EXPECT_EQ(order.keys.size() % kBatchBlocks, 0u);
  }
}

TEST_P(ChunkPipelineTest, CalledOffAnywhereItDropsWhatIsUnderWay) {
  for (uint64_t blocks = 1; blocks < 2000; blocks += 93) {
    KeepingOrder order;
    ChunkPipeline pipeline(codec_, order, options());
    for (uint64_t i = 0; i < blocks; ++i) {
      ASSERT_TRUE(pipeline.AddBlock(0, i, BlockOf(i)).ok());
    }
    EXPECT_LE(order.keys.size(), blocks);
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, ChunkPipelineTest, testing::Values(0u, 1u, 2u, 4u),
                         [](const auto& test) { return std::to_string(test.param); });

}  // namespace
}  // namespace pacsvisor
