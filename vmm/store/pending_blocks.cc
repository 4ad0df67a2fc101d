#include "vmm/store/pending_blocks.h"

#include <algorithm>

#include "vmm/base/check.h"

namespace pacsvisor {

// Two streams, the blocks and the runs, by key; a block and a run that meet are decided by age.
class PendingBlocks::Source : public EntrySource {
 public:
  Source(std::vector<Block> blocks, std::vector<SealKey> keys, std::map<uint64_t, Run> runs)
      : blocks_(std::move(blocks)),
        keys_(std::move(keys)),
        runs_(std::move(runs)),
        run_(runs_.begin()) {
    const auto before = [](const Block& left, const Block& right) {
      return left.key != right.key ? left.key < right.key : left.order < right.order;
    };
    if (!std::is_sorted(blocks_.begin(), blocks_.end(), before)) {
      std::sort(blocks_.begin(), blocks_.end(), before);
    }
  }

  Result<bool> Next(TableEntry& entry) override {
    SkipHidden();
    const bool more = next_ < blocks_.size();
    if (run_ != runs_.end()) {
      const uint64_t first = std::max(run_->first, position_);
      if (!more || first < blocks_[next_].key) {
        const uint64_t end =
            more ? std::min(run_->second.end, blocks_[next_].key) : run_->second.end;
        entry = {.first = first, .count = end - first, .kind = BlockKind::kZero};
        return Advance(end);
      }
    }
    if (!more) {
      return false;
    }
    const Block& block = blocks_[next_];
    entry = {.first = block.key,
             .count = 1,
             .kind = block.kind,
             .place = block.place,
             .chunk = {.name = block.name, .key = {}}};
    if (block.order < keys_.size()) {
      entry.chunk.key = keys_[block.order];
    }
    return Advance(block.key + 1);
  }

 private:
  bool Advance(uint64_t position) {
    position_ = position;
    return true;
  }

  // Leaves next_ at a block that counts, and run_ at a run that is not over.
  void SkipHidden() {
    for (;; ++next_) {
      while (run_ != runs_.end() && run_->second.end <= position_) {
        ++run_;
      }
      if (next_ == blocks_.size()) {
        return;
      }
      const Block& block = blocks_[next_];
      const bool again = next_ + 1 < blocks_.size() && blocks_[next_ + 1].key == block.key;
      if (block.key >= position_ && !again && !UnderRun(block)) {
        return;
      }
    }
  }

  // Whether a run that was given later covers the block.
  bool UnderRun(const Block& block) const {
    auto run = runs_.upper_bound(block.key);
    if (run == runs_.begin()) {
      return false;
    }
    --run;
    return block.key < run->second.end && block.order < run->second.order;
  }

  std::vector<Block> blocks_;
  std::vector<SealKey> keys_;
  std::map<uint64_t, Run> runs_;
  std::map<uint64_t, Run>::iterator run_;
  size_t next_ = 0;
  uint64_t position_ = 0;
};

void PendingBlocks::AddChunk(uint64_t key, const ChunkId& chunk, const ChunkPlace& place) {
  if (chunk.key != SealKey{}) {
    keys_.resize(blocks_.size());
    keys_.push_back(chunk.key);
  }
  blocks_.push_back({.key = key,
                     .order = static_cast<uint32_t>(blocks_.size()),
                     .kind = BlockKind::kChunk,
                     .place = place,
                     .name = chunk.name});
}

void PendingBlocks::AddZeroes(uint64_t first, uint64_t count) {
  if (count == 1) {
    blocks_.push_back(
        {.key = first, .order = static_cast<uint32_t>(blocks_.size()), .kind = BlockKind::kZero});
    return;
  }
  CutRuns(first, first + count);
  runs_[first] = {first + count, static_cast<uint32_t>(blocks_.size())};
}

void PendingBlocks::CutRuns(uint64_t first, uint64_t end) {
  auto run = runs_.lower_bound(first);
  if (run != runs_.begin() && std::prev(run)->second.end > first) {
    --run;
  }
  while (run != runs_.end() && run->first < end) {
    const uint64_t run_first = run->first;
    const Run old = run->second;
    run = runs_.erase(run);
    if (run_first < first) {
      runs_[run_first] = {first, old.order};
    }
    if (old.end > end) {
      runs_[end] = old;
    }
  }
}

std::unique_ptr<EntrySource> PendingBlocks::Take() {
  auto source = std::make_unique<Source>(std::move(blocks_), std::move(keys_), std::move(runs_));
  blocks_.clear();
  keys_.clear();
  runs_.clear();
  return source;
}

}  // namespace pacsvisor
