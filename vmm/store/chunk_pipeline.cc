#include "vmm/store/chunk_pipeline.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/thread_priority.h"

namespace pacsvisor {

ChunkPipeline::ChunkPipeline(const ChunkCodec& codec, Order& order, const Options& options)
    : codec_(codec),
      order_(order),
      options_(options),
      most_under_way_(options.workers == 0 ? 1 : (options.workers + 1) * kBatchesPerThread) {}

ChunkPipeline::~ChunkPipeline() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  to_do_.notify_all();
  for (std::thread& worker : workers_) {
    worker.join();
  }
}

Status ChunkPipeline::AddBlock(uint32_t space, uint64_t key, std::span<const uint8_t> bytes) {
  Filling().AddBlock(space, key, bytes);
  return Full();
}

Status ChunkPipeline::AddZeroes(uint32_t space, uint64_t key, uint64_t count) {
  Filling().AddZeroes(space, key, count);
  return Full();
}

Status ChunkPipeline::Flush() {
  if (filling_ != nullptr) {
    Submit();
  }
  return Advance(0);
}

ChunkBatch& ChunkPipeline::Filling() {
  if (filling_ == nullptr && !free_.empty()) {
    filling_ = std::move(free_.back());
    free_.pop_back();
  } else if (filling_ == nullptr) {
    filling_ = std::make_unique<ChunkBatch>(options_.batch_blocks);
    ++batches_;
  }
  return *filling_;
}

Status ChunkPipeline::Full() {
  if (!filling_->full()) {
    return {};
  }
  StartWorkers();
  Submit();
  return Advance(most_under_way_ - 1);
}

void ChunkPipeline::Submit() {
  {
    const MutexLock lock(mutex_);
    under_way_.push_back({.batch = std::move(filling_)});
  }
  to_do_.notify_one();
}

void ChunkPipeline::StartWorkers() {
  if (std::exchange(started_, true)) {
    return;
  }
  for (unsigned i = 0; i < options_.workers; ++i) {
    Result<std::thread> worker = StartThread(ThreadKind::kStore, "store-work", [this] { Work(); });
    if (!worker.ok()) {
      Log(LogLevel::kDebug, "{}: the store does with {}", worker.error().message(), i);
      return;
    }
    workers_.push_back(*std::move(worker));
  }
}

Status ChunkPipeline::Advance(size_t most) {
  while (const std::optional<Step> step = NextStep(most)) {
    LetOthersRun();
    if (step->decided != nullptr) {
      TRY(DecideOn(*step->decided));
    } else if (step->written != nullptr) {
      TRY(WriteFirst(*step->written));
    } else {
      Do(*step->helped, compressor_);
    }
  }
  return {};
}

std::optional<ChunkPipeline::Step> ChunkPipeline::NextStep(size_t most) {
  const MutexLock lock(mutex_);
  while (true) {
    // First what gives others work.
    if (decided_ < under_way_.size() && under_way_[decided_].stage == Stage::kNamed) {
      return Step{.decided = &under_way_[decided_]};
    }
    if (!under_way_.empty() && under_way_.front().stage == Stage::kStored) {
      return Step{.written = &under_way_.front()};
    }
    if (under_way_.size() <= most) {
      return std::nullopt;
    }
    if (UnderWay* const job = TakeJob()) {
      return Step{.helped = job};
    }
    done_.wait(mutex_);
  }
}

Status ChunkPipeline::DecideOn(UnderWay& next) {
  TRY(order_.Decide(*next.batch));
  const bool needs_storing = next.batch->NeedsStoring();
  {
    const MutexLock lock(mutex_);
    next.stage = needs_storing ? Stage::kToStore : Stage::kStored;
    ++decided_;
  }
  if (needs_storing) {
    to_do_.notify_one();
  }
  return {};
}

Status ChunkPipeline::WriteFirst(UnderWay& first) {
  TRY(order_.Write(*first.batch));
  first.batch->Clear();
  free_.push_back(std::move(first.batch));
  const MutexLock lock(mutex_);
  under_way_.pop_front();
  --decided_;
  return {};
}

void ChunkPipeline::Work() {
  LowerCpuPriority();
  ChunkCompressor compressor;
  while (true) {
    UnderWay* job = nullptr;
    {
      const MutexLock lock(mutex_);
      while (!stopping_ && (job = TakeJob()) == nullptr) {
        to_do_.wait(mutex_);
      }
      if (stopping_) {
        return;
      }
    }
    Do(*job, compressor);
    LetOthersRun();
  }
}

ChunkPipeline::UnderWay* ChunkPipeline::TakeJob() {
  for (UnderWay& batch : under_way_) {
    if (batch.stage == Stage::kToName || batch.stage == Stage::kToStore) {
      batch.stage = batch.stage == Stage::kToName ? Stage::kNaming : Stage::kStoring;
      return &batch;
    }
  }
  return nullptr;
}

void ChunkPipeline::Do(UnderWay& job, ChunkCompressor& compressor) {
  // Nobody else changes the stage of a batch that is taken.
  const bool naming = job.stage == Stage::kNaming;
  if (naming) {
    job.batch->Name(codec_);
  } else {
    job.batch->Store(codec_, compressor);
  }
  {
    const MutexLock lock(mutex_);
    job.stage = naming ? Stage::kNamed : Stage::kStored;
  }
  done_.notify_one();
}

unsigned DefaultStoreWorkers() {
  cpu_set_t allowed;
  const int count =
      ::sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  return std::min(kMostWorkers, static_cast<unsigned>(std::max(count, 2) - 2));
}

}  // namespace pacsvisor
