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

// The next piece that is to be merged, into the table. It may have to wait there for a request of
// the guest, and is looked at again when it starts.
bool LayeredDisk::AdmitMerge() {
  uint64_t first = map_.NextLayered(merge_cursor_);
  if (first == map_blocks_) {
    // Behind the cursor there may be more: requests on their way to a layer when it was released.
    // Not while pieces are on their way, which would be met again.
    if (merges_ > 0 || merge_cursor_ == 0) {
      return false;
    }
    merge_cursor_ = 0;
    first = map_.NextLayered(0);
    if (first == map_blocks_) {
      return false;
    }
  }
  MergeSlot& slot = *std::find_if(merge_slots_.begin(), merge_slots_.end(),
                                  [](const MergeSlot& one) { return !one.in_use; });
  const uint64_t end = std::min(first + kMergeBlocks, map_blocks_);
  slot.in_use = true;
  slot.request = {.operation = BlockOperation::kWrite,
                  .offset_bytes = first * kBlockBytes,
                  .size_bytes = std::min(end * kBlockBytes, size_bytes()) - first * kBlockBytes,
                  .owner = this};
  merge_cursor_ = end == map_blocks_ ? 0 : end;
  ++merges_;
  if (table_.Admit(slot.request)) {
    ready_.push_back(&slot.request);
  }
  return true;
}

void LayeredDisk::Settle() {
  std::optional<LayerJanitor::Rubbish> rubbish;
  {
    const MutexLock lock(mutex_);
    if (view_open_ || active_ != 0 || to_layers_ > 0 || merges_ > 0 || map_.layered_count() > 0) {
      return;
    }
    if (!commit_.settled()) {
      // The log's last word on every block must be "base", durably, before changes bypass it.
      if (merge_error_ == 0 && !draining_ && !commit_.running()) {
        commit_.Ask();
      }
      return;
    }
    layered_ = false;
    rubbish = TakeRubbish();
  }
  if (!rubbish.has_value()) {
    return;
  }
  for (const uint8_t layer : rubbish->layers) {
    RemoveFromEngine(files_[layer]);
    commit_.Forget(layer);
  }
  if (rubbish->log.valid()) {
    RemoveFromEngine(log_file_);
    log_open_ = false;
  }
  janitor_.Dispose(std::move(*rubbish));
  {
    const MutexLock lock(mutex_);
    retiring_ = false;
    has_log_ = log_open_;
  }
  changed_.notify_all();
}

// What a prepared layer needs stays: its file, and the log.
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
  if (prepared_ == 0) {
    rubbish.log = std::move(log_fd_);
  } else if (rubbish.layers.empty()) {
    return std::nullopt;
  }
  retiring_ = true;
  return rubbish;
}

Status LayeredDisk::MergeAll() {
  {
    const MutexLock lock(mutex_);
    CHECK(!preparing_, "{} is being prepared", name_);
    prepared_ = 0;
    merge_error_ = 0;
  }
  Release();
  while (log_open_) {
    Kick();
    if (Poll() > 0 || !log_open_) {
      continue;
    }
    {
      const MutexLock lock(mutex_);
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

}  // namespace pacsvisor
