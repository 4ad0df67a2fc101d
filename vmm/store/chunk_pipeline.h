// A writer's blocks on their way: hashed, compressed and sealed by several threads, decided on and
// written by the owner in the order given, so that a store is the same byte for byte however many
// threads there are.
//
//   AddBlock ─ batch ─► Name (any thread) ─► Decide (owner, in order)
//                            ─► Store (any thread) ─► Write (owner, in order)
//
// Bounded: at most kBatchesPerThread batches for each thread (the owner's counted) are under way,
// one without workers; a batch of kBatchBlocks takes 260 KiB. With four workers that is 21 MiB.
// Whoever has given that much lends a hand until there is room, so that nothing waits for workers
// that get no processor, and no worker is needed. They start with the first batch that is full, on
// a lower CPU priority than the owner; that one cannot be started is no error.
//
// Threads: the owner, one at a time. Order is called by the owner's.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/store/chunk_batch.h"

namespace pacsvisor {

inline constexpr size_t kBatchBlocks = 32;
inline constexpr size_t kBatchesPerThread = 16;
inline constexpr unsigned kMostWorkers = 4;

class ChunkPipeline {
 public:
  // What is done batch by batch in the order given, and each item in its place.
  class Order {
   public:
    virtual ~Order() = default;
    // Settles the fate of every item that has only been given.
    virtual Status Decide(ChunkBatch& batch) = 0;
    virtual Status Write(ChunkBatch& batch) = 0;
  };
  struct Options {
    unsigned workers = 0;
    size_t batch_blocks = kBatchBlocks;
  };

  // Both are borrowed.
  ChunkPipeline(const ChunkCodec& codec, Order& order, const Options& options);
  ~ChunkPipeline();  // what is under way is dropped

  // An error is of anything given so far; nothing more may be given after it.
  Status AddBlock(uint32_t space, uint64_t key, std::span<const uint8_t> bytes);
  Status AddZeroes(uint32_t space, uint64_t key, uint64_t count);
  // All that was given is written.
  Status Flush();

  size_t batches() const { return batches_; }  // that were made: a measure of memory

 private:
  enum class Stage : uint8_t { kToName, kNaming, kNamed, kToStore, kStoring, kStored };
  struct UnderWay {
    std::unique_ptr<ChunkBatch> batch;
    Stage stage = Stage::kToName;
  };
  // A place in under_way_ stays while others come and go.
  struct Step {
    UnderWay* decided = nullptr;
    UnderWay* written = nullptr;
    UnderWay* helped = nullptr;
  };

  ChunkBatch& Filling();
  Status Full();
  void Submit() EXCLUDES(mutex_);
  void StartWorkers();
  // Until at most so many batches are under way.
  Status Advance(size_t most) EXCLUDES(mutex_);
  // Nothing: there is room, and nothing to be done in order.
  std::optional<Step> NextStep(size_t most) EXCLUDES(mutex_);
  Status DecideOn(UnderWay& next) EXCLUDES(mutex_);
  Status WriteFirst(UnderWay& first) EXCLUDES(mutex_);

  void Work() EXCLUDES(mutex_);
  UnderWay* TakeJob() REQUIRES(mutex_);  // the oldest; null: none
  void Do(UnderWay& job, ChunkCompressor& compressor) EXCLUDES(mutex_);

  const ChunkCodec& codec_;
  Order& order_;
  const Options options_;
  const size_t most_under_way_;

  // The owner's.
  std::vector<std::thread> workers_;
  bool started_ = false;
  std::unique_ptr<ChunkBatch> filling_;
  std::vector<std::unique_ptr<ChunkBatch>> free_;
  ChunkCompressor compressor_;
  size_t batches_ = 0;

  Mutex mutex_;
  std::condition_variable_any to_do_;
  std::condition_variable_any done_;
  std::deque<UnderWay> under_way_ GUARDED_BY(mutex_);  // oldest first
  size_t decided_ GUARDED_BY(mutex_) = 0;              // of these, from the first on
  bool stopping_ GUARDED_BY(mutex_) = false;
};

// Two fewer than there are processors for this process, at most kMostWorkers: the owner works too,
// and a guest that has to share its processor stands still for a slice of the scheduler's each time.
unsigned DefaultStoreWorkers();

}  // namespace pacsvisor
