#include "vmm/disk/layer_commit.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "vmm/base/check.h"
#include "vmm/disk/layer_log.h"

namespace pacsvisor {

void LayerCommit::UseLog(TransferFile file, uint64_t log_id, uint64_t next_sequence,
                         uint64_t end_bytes) {
  CHECK(pending_.empty() && round_.empty(), "{} changes for another log", pending_.size());
  log_ = file;
  log_id_ = log_id;
  next_sequence_ = next_sequence;
  end_bytes_ = end_bytes;
}

void LayerCommit::Changed(const PlaceChange& change) {
  ++changes_;
  if (!pending_.empty()) {
    PlaceChange& last = pending_.back();
    if (last.place == change.place && last.first + last.count == change.first &&
        last.count + change.count <= std::numeric_limits<uint32_t>::max()) {
      last.count += change.count;
      return;
    }
  }
  pending_.push_back(change);
}

void LayerCommit::Step() {
  const bool full = pending_.size() >= kMostPending && !failed_;
  if (running_ || (waiting_.empty() && !asked_ && !full)) {
    return;
  }
  running_ = true;
  asked_ = false;
  error_number_ = 0;
  waiters_.swap(waiting_);
  round_.swap(pending_);
  round_changes_ = changes_;
  recorded_ = 0;
  syncing_ = std::exchange(unsynced_, {});
  syncs_ = static_cast<size_t>(std::count(syncing_.begin(), syncing_.end(), true));
  for (size_t layer = 0; layer < syncing_.size(); ++layer) {
    if (syncing_[layer]) {
      runner_.Start({.operation = BlockOperation::kFlush,
                     .file = files_[layer],
                     .owner = static_cast<TransferOwner*>(&sync_step_)});
    }
  }
  if (syncs_ == 0) {
    WriteNextBatch();
  }
}

void LayerCommit::SyncDone(int error_number) {
  error_number_ = error_number_ != 0 ? error_number_ : error_number;
  if (--syncs_ > 0) {
    return;
  }
  if (error_number_ != 0) {
    for (size_t layer = 0; layer < syncing_.size(); ++layer) {
      unsynced_[layer] = unsynced_[layer] || syncing_[layer];
    }
    return End(error_number_);
  }
  WriteNextBatch();
}

void LayerCommit::WriteNextBatch() {
  if (recorded_ == round_.size()) {
    return End(0);
  }
  batch_size_ = std::min(kMaxBatchEntries, round_.size() - recorded_);
  batch_ =
      EncodeLogBatch(log_id_, next_sequence_, std::span(round_).subspan(recorded_, batch_size_));
  part_ = {batch_.data(), batch_.size()};
  runner_.Start({.operation = BlockOperation::kWrite,
                 .durable = true,
                 .file = log_,
                 .offset_bytes = end_bytes_,
                 .size_bytes = batch_.size(),
                 .iovecs = {&part_, 1},
                 .owner = static_cast<TransferOwner*>(&log_step_)});
}

void LayerCommit::LogDone(int error_number) {
  if (error_number != 0) {
    return End(error_number);
  }
  recorded_ += batch_size_;
  end_bytes_ += batch_.size();
  ++next_sequence_;
  WriteNextBatch();
}

void LayerCommit::End(int error_number) {
  for (void* waiter : waiters_) {
    done_.push_back({waiter, error_number});
  }
  waiters_.clear();
  // What was not recorded comes before what has changed since: the last word on a block counts.
  round_.erase(round_.begin(), round_.begin() + static_cast<ptrdiff_t>(recorded_));
  round_.insert(round_.end(), pending_.begin(), pending_.end());
  pending_.swap(round_);
  round_.clear();
  running_ = false;
  recorded_changes_ = error_number == 0 ? round_changes_ : recorded_changes_;
  failed_ = error_number != 0;
  outcome_ = error_number;
}

void LayerCommit::TakeDone(std::vector<Done>& done) {
  done.insert(done.end(), done_.begin(), done_.end());
  done_.clear();
}

}  // namespace pacsvisor
