// Merging: what the layers hold goes back to the base image, and then the layers go.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/base/align.h"
#include "vmm/disk/layered_disk.h"

namespace pacsvisor {

void LayeredDisk::MergeMore() {
  const MutexLock lock(mutex_);
  if (view_open_ || active_ != 0 || draining_ || merge_error_ != 0) {
    return;
  }
  const unsigned most = table_.size() > merges_ ? kMergesBusy : kMergesIdle;
  while (merges_ < most && AdmitMerge()) {
  }
}

// Where the next piece begins. Layers come first: their number is limited, and a snapshot needs a
// free one.
std::optional<uint64_t> LayeredDisk::NextToMerge() {
  const bool layers = map_.in_layers() > 0;
  if (!layers && (leave_source_ || fetch_error_ != 0 || map_.in_source() == 0)) {
    return std::nullopt;
  }
  uint64_t& cursor = layers ? merge_cursor_ : source_cursor_;
  const auto next = [this, layers](uint64_t from) {
    return layers ? map_.NextInLayers(from) : map_.NextLayered(from);
  };
  uint64_t first = next(cursor);
  if (first == map_blocks_) {
    // Behind the cursor there may be more: requests on their way to a layer when it was released,
    // or fetches that failed. Not while pieces are on their way, which would be met again.
    if (merges_ > 0 || cursor == 0) {
      return std::nullopt;
    }
    cursor = 0;
    first = next(0);
  }
  return first == map_blocks_ ? std::nullopt : std::optional(first);
}

LayeredDisk::MergeSlot& LayeredDisk::FreeMergeSlot() {
  MergeSlot& slot = *std::find_if(merge_slots_.begin(), merge_slots_.end(),
                                  [](const MergeSlot& one) { return !one.in_use; });
  slot.in_use = true;
  return slot;
}

MergeOf LayeredDisk::WhatIsMerged(const BlockRequest& request) const {
  for (const MergeSlot& slot : merge_slots_) {
    if (&slot.request == &request) {
      return slot.what;
    }
  }
  CHECK(false, "a request that is no merge");
}

// The next piece that is to be merged, into the table. It may have to wait there for a request of
// the guest, and is looked at again when it starts.
bool LayeredDisk::AdmitMerge() {
  const std::optional<uint64_t> next = NextToMerge();
  if (!next.has_value()) {
    return false;
  }
  const uint64_t first = *next;
  MergeSlot& slot = FreeMergeSlot();
  const bool layers = map_.in_layers() > 0;
  slot.what = layers ? MergeOf::kLayers : MergeOf::kSource;
  uint64_t end = std::min(first + kMergeBlocks, map_blocks_);
  if (!layers && known_zeroes_.Hold(first)) {
    slot.what = MergeOf::kSourceZeroes;
    end = std::min(first + kMergeZeroBlocks, known_zeroes_.end);
  }
  slot.request = {.operation = BlockOperation::kWrite,
                  .offset_bytes = first * kBlockBytes,
                  .size_bytes = std::min(end * kBlockBytes, size_bytes()) - first * kBlockBytes,
                  .owner = this};
  (layers ? merge_cursor_ : source_cursor_) = end == map_blocks_ ? 0 : end;
  ++merges_;
  if (table_.Admit(slot.request)) {
    ready_.push_back(&slot.request);
  }
  return true;
}

void LayeredDisk::AskForRound() {
  if (merge_error_ == 0 && !draining_ && !commit_.running()) {
    commit_.Ask();
  }
}

// The log's last word on every block must be "base", durably, before changes bypass it.
bool LayeredDisk::MayRetireLog() {
  if (merges_ > 0 || map_.layered_count() > 0) {
    return false;
  }
  if (!commit_.settled()) {
    AskForRound();
    return false;
  }
  return true;
}

// While blocks are in the source the log stays, and its last word on every block must be another
// place than a layer. No request is on its way that reads one: its blocks would still be there.
bool LayeredDisk::MayRetireLayers() {
  if (!HasUsedLayers() && !leave_source_) {
    return false;
  }
  if (map_.in_layers() > 0 || map_.in_source() == 0) {
    layers_home_.reset();
    return false;
  }
  if (!layers_home_.has_value()) {
    layers_home_ = commit_.change_count();
  }
  const bool unrecorded = leave_source_ && !commit_.settled();
  if (!commit_.Recorded(*layers_home_) || unrecorded) {
    AskForRound();
    return false;
  }
  return !commit_.running();
}

bool LayeredDisk::HasUsedLayers() {
  return std::any_of(layers_.begin() + 1, layers_.end(),
                     [](const Layer& layer) { return layer.in_use; });
}

bool LayeredDisk::WaitsToForget() {
  return layered_ && !needs_source_ && map_.layered_count() == 0 && source_ != nullptr &&
         !source_->MayForget();
}

void LayeredDisk::Settle() {
  std::optional<LayerJanitor::Rubbish> rubbish;
  {
    const MutexLock lock(mutex_);
    if (view_open_ || active_ != 0 || to_layers_ > 0) {
      layers_home_.reset();
      return;
    }
    if (WaitsToForget() && !HasUsedLayers()) {
      return;  // no more rounds for that
    }
    if (MayRetireLog()) {
      needs_source_ = false;
      layered_ = WaitsToForget();
    } else if (!MayRetireLayers()) {
      return;
    }
    rubbish = TakeRubbish();
  }
  if (rubbish.has_value()) {
    Dispose(*std::move(rubbish));
  }
}

// What a prepared layer needs stays: its file, and the log; so does the log of blocks that are in
// the source.
std::optional<LayerJanitor::Rubbish> LayeredDisk::TakeRubbish() {
  if (preparing_) {
    return std::nullopt;
  }
  LayerJanitor::Rubbish rubbish;
  for (uint8_t layer = 1; layer <= kMaxLayers; ++layer) {
    if (layers_[layer].in_use && layer != prepared_) {
      layers_[layer].in_use = false;
      rubbish.layers.push_back(layer);
      rubbish.files.push_back(std::move(layers_[layer].file));
    }
  }
  if (prepared_ == 0 && !layered_) {
    rubbish.log = std::move(log_fd_);
  } else if (rubbish.layers.empty()) {
    return std::nullopt;
  }
  retiring_ = true;
  return rubbish;
}

void LayeredDisk::Dispose(LayerJanitor::Rubbish rubbish) {
  for (const uint8_t layer : rubbish.layers) {
    RemoveFromEngine(files_[layer]);
    commit_.Forget(layer);
  }
  if (rubbish.log.valid()) {
    RemoveFromEngine(log_file_);
    log_open_ = false;
  }
  janitor_.Dispose(std::move(rubbish));
  {
    const MutexLock lock(mutex_);
    retiring_ = false;
    has_log_ = log_open_;
  }
  changed_.notify_all();
}

// What MergeAll works for.
bool LayeredDisk::AtEnd(SourceBlocks source_blocks) {
  if (!log_open_) {
    return true;
  }
  const MutexLock lock(mutex_);
  const bool source_stays =
      (source_blocks == SourceBlocks::kLeave && map_.in_source() > 0) || WaitsToForget();
  return source_stays && !HasUsedLayers() && map_.in_layers() == 0 && table_.size() == 0 &&
         commit_.settled();
}

Status LayeredDisk::MergeAll(SourceBlocks source_blocks) {
  {
    const MutexLock lock(mutex_);
    CHECK(!preparing_, "{} is being prepared", name_);
    prepared_ = 0;
    merge_error_ = 0;
    fetch_error_ = 0;
    leave_source_ = source_blocks == SourceBlocks::kLeave;
  }
  Release();
  while (!AtEnd(source_blocks)) {
    Kick();
    if (Poll() > 0 || AtEnd(source_blocks)) {
      continue;
    }
    {
      const MutexLock lock(mutex_);
      if (fetch_error_ != 0 && source_blocks == SourceBlocks::kFetch && table_.size() == 0 &&
          !commit_.running()) {
        return Error::FromErrno(fetch_error_,
                                "disk {}: {} of its blocks cannot be fetched from {} (the log says "
                                "why); the next run goes on",
                                name_, map_.in_source(), source_->name());
      }
      if (merge_error_ != 0 && table_.size() == 0 && !commit_.running()) {
        return Error::FromErrno(merge_error_,
                                "disk {}: merging its layers into the image (they stay in {}, and "
                                "the next run goes on)",
                                name_, directory_->name());
      }
    }
    pollfd wait{.fd = wait_fd(), .events = POLLIN, .revents = 0};
    const int result = ::poll(&wait, 1, -1);
    CHECK(result >= 0 || errno == EINTR, "poll: errno {}", errno);
  }
  return directory_ == nullptr ? Status() : janitor_.WaitIdle();
}

uint64_t LayeredDisk::blocks_in_source() const {
  const MutexLock lock(mutex_);
  return map_.in_source();
}

void LayeredDisk::FetchAgain() {
  {
    const MutexLock lock(mutex_);
    if (fetch_error_ == 0) {
      return;
    }
    fetch_error_ = 0;
  }
  Wake();
}

bool LayeredDisk::needs_source() const {
  const MutexLock lock(mutex_);
  return needs_source_;
}

}  // namespace pacsvisor
