// The SealedView's side of LayeredDisk: the way of an epoch.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "vmm/base/align.h"
#include "vmm/disk/layered_disk.h"

namespace pacsvisor {

// ---- Prepare

Status LayeredDisk::Prepare() {
  if (read_only()) {
    return {};
  }
  if (directory_ == nullptr) {
    return Error::Make(
        ErrorCode::kUnsupported,
        "disk {} cannot be snapshotted while its machine runs: there is no place for "
        "its layers (it is a block device); use an image file",
        name_);
  }
  const Result<uint8_t> reserved = ReserveLayer();
  if (!reserved.ok()) {
    Wake();  // merging that had stopped is tried again
    return reserved.error();
  }
  const uint8_t layer = *reserved;
  if (layer == 0) {
    return {};
  }
  NewFiles files;
  Status made = MakeLayer(layer, files);
  if (made.ok()) {
    made = HandOver(files);
  }
  if (!made.ok()) {
    (void)directory_->RemoveLayer(layer);
    if (files.log_header.log_id != 0) {
      (void)directory_->RemoveLog();
    }
  }
  {
    const MutexLock lock(mutex_);
    layers_[layer].in_use = made.ok();
    prepared_ = made.ok() ? layer : uint8_t{0};
    preparing_ = false;
  }
  Wake();  // what was merged meanwhile may go now
  return made;
}

// 0: one is prepared already.
Result<uint8_t> LayeredDisk::ReserveLayer() {
  const MutexLock lock(mutex_);
  CHECK(!preparing_, "{} is being prepared by two threads", name_);
  if (view_open_) {
    return Error::Make(ErrorCode::kBusy,
                       "disk {}: the last snapshot still reads its disk; wait until it is done",
                       name_);
  }
  if (prepared_ != 0) {
    return uint8_t{0};
  }
  merge_error_ = 0;
  fetch_error_ = 0;
  while (retiring_) {
    changed_.wait(mutex_);
  }
  const auto free = std::find_if(layers_.begin() + 1, layers_.end(),
                                 [](const Layer& layer) { return !layer.in_use; });
  if (free == layers_.end()) {
    return Error::Make(ErrorCode::kBusy,
                       "disk {}: {} layers of earlier snapshots are not yet merged into the image; "
                       "try again when they are (if it stays so, the log says what the host "
                       "refused)",
                       name_, kMaxLayers);
  }
  free->in_use = true;
  preparing_ = true;
  return static_cast<uint8_t>(free - layers_.begin());
}

Status LayeredDisk::MakeLayer(uint8_t layer, NewFiles& files) {
  TRY(janitor_.Start());
  // Names that are about to be taken away must not be met.
  TRY(janitor_.WaitIdle());
  files.layer = layer;
  files.file = TRY(directory_->CreateLayer(layer, size_bytes(), image_->direct_fd() >= 0));
  bool has_log = false;
  {
    const MutexLock lock(mutex_);
    has_log = has_log_;
  }
  if (!has_log) {
    const LayerLogHeader header = ExpectedHeader();
    files.log = TRY(directory_->CreateLog(header));
    files.log_header = header;
  }
  return directory_->Sync();
}

// The engine belongs to the worker.
Status LayeredDisk::HandOver(NewFiles& files) {
  {
    const MutexLock lock(mutex_);
    new_files_ = &files;
  }
  Wake();
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(kPrepareTimeoutMs);
  const MutexLock lock(mutex_);
  while (!files.done) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout && !files.taken) {
      new_files_ = nullptr;
      return Error::Make(ErrorCode::kTimeout,
                         "disk {}: its worker did not answer within {} s; nothing was changed",
                         name_, kPrepareTimeoutMs / 1000);
    }
  }
  return std::move(files.status);
}

void LayeredDisk::TakeNewFiles() {
  NewFiles* files = nullptr;
  {
    const MutexLock lock(mutex_);
    files = std::exchange(new_files_, nullptr);
    if (files == nullptr) {
      return;
    }
    files->taken = true;
  }
  Result<TransferFile> layer = AddToEngine(files->file.buffered.get(), files->file.direct.get());
  Result<TransferFile> log = TransferFile();
  if (layer.ok() && files->log.valid()) {
    log = AddToEngine(files->log.get(), -1);
  }
  if (layer.ok() && log.ok()) {
    files_[files->layer] = *layer;
    if (files->log.valid()) {
      log_file_ = *log;
      log_fd_ = std::move(files->log);
      log_open_ = true;
      commit_.UseLog(log_file_, files->log_header.log_id, 1, kLogSectorBytes);
    }
  } else if (layer.ok()) {
    RemoveFromEngine(*layer);
  }
  {
    const MutexLock lock(mutex_);
    has_log_ = log_open_;
    if (!layer.ok() || !log.ok()) {
      files->status = layer.ok() ? log.error() : layer.error();
    } else {
      layers_[files->layer].file = std::move(files->file);
    }
    files->done = true;
  }
  changed_.notify_all();
}

// ---- Flip

void LayeredDisk::Flip(std::span<uint64_t> words) {
  const MutexLock lock(mutex_);
  const auto mark_unfinished = [this](const BlockRequest& request) { MarkDirty(request); };
  table_.ForEach(mark_unfinished);
  dirty_.TakeInto(words);
  table_.ForEach(mark_unfinished);
  if (read_only()) {
    return;
  }
  CHECK(prepared_ != 0 && !view_open_, "{} flipped without a prepared layer", name_);
  active_ = std::exchange(prepared_, uint8_t{0});
  layered_ = true;
  view_open_ = true;
  ++epoch_;
  seal_pending_ = changes_;
}

// ---- Read

Status LayeredDisk::Read(BlockIndex first, std::span<uint8_t> bytes, uint32_t timeout_ms) {
  CHECK(IsAligned<uint64_t>(bytes.size(), kBlockBytes) && first.raw() <= map_blocks_ &&
            bytes.size() / kBlockBytes <= map_blocks_ - first.raw(),
        "{} bytes from block {} of {}", bytes.size(), first, map_blocks_);
  struct Run {
    uint64_t blocks;
    BlockPlace place;
    int fd;
  };
  std::vector<Run> runs;
  {
    const MutexLock lock(mutex_);
    CHECK(view_open_ || read_only(), "{} read without a view", name_);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (seal_pending_ > 0) {
      if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout && seal_pending_ > 0) {
        return Error::Make(ErrorCode::kTimeout,
                           "disk {}: {} requests from before the snapshot's instant have not ended "
                           "after {} ms: the host's disk hangs",
                           name_, seal_pending_, timeout_ms);
      }
    }
    // What it says stays true while the view is open: nothing that it names is written any more.
    const uint64_t end = first.raw() + bytes.size() / kBlockBytes;
    for (uint64_t block = first.raw(); block < end; ++block) {
      const BlockPlace now = map_.Get(block);
      const BlockPlace then = active_ != 0 && now.layer() == active_ ? shadow_.Get(block) : now;
      if (runs.empty() || runs.back().place != then) {
        int fd = -1;
        if (!then.source()) {
          fd = then.base() ? image_->fd() : layers_[then.layer()].file.buffered.get();
        }
        runs.push_back({0, then, fd});
      }
      ++runs.back().blocks;
    }
  }
  uint64_t block = first.raw();
  for (const Run& run : runs) {
    const std::span<uint8_t> part =
        bytes.subspan((block - first.raw()) * kBlockBytes, run.blocks * kBlockBytes);
    TRY(ReadRun(run.place, run.fd, block * kBlockBytes, part));
    block += run.blocks;
  }
  return {};
}

Status LayeredDisk::ReadRun(BlockPlace place, int fd, uint64_t offset_bytes,
                            std::span<uint8_t> bytes) const {
  size_t size = 0;
  if (!place.reads_zeroes()) {
    size = std::min<uint64_t>(bytes.size(), size_bytes() - offset_bytes);
  }
  if (place.source()) {
    Status fetched = source_->Fetch(BlockIndex(offset_bytes / kBlockBytes), bytes);
    if (!fetched.ok()) {
      return std::move(fetched).error().WithContext(fmt::format(
          "disk {}: fetching {} bytes at byte {} for a snapshot", name_, size, offset_bytes));
    }
  }
  std::memset(bytes.data() + size, 0, bytes.size() - size);
  if (place.source()) {
    return {};
  }
  for (size_t done = 0; done < size;) {
    const ssize_t got =
        ::pread(fd, bytes.data() + done, size - done, static_cast<off_t>(offset_bytes + done));
    if (got > 0) {
      done += static_cast<size_t>(got);
    } else if (got == 0 || errno != EINTR) {
      return Error::FromErrno(got == 0 ? EIO : errno,
                              "disk {}: reading {} bytes at byte {} for a snapshot{}", name_, size,
                              offset_bytes, got == 0 ? " (the file was cut short)" : "");
    }
  }
  return {};
}

// ---- Release

void LayeredDisk::Release() {
  BlockMap shadow(map_blocks_);  // freed without the lock: it may be large
  {
    const MutexLock lock(mutex_);
    if (!view_open_) {
      return;
    }
    view_open_ = false;
    active_ = 0;
    merge_error_ = 0;
    fetch_error_ = 0;
    std::swap(shadow, shadow_);
  }
  Wake();
}

unsigned LayeredDisk::layer_count() const {
  const MutexLock lock(mutex_);
  return static_cast<unsigned>(std::count_if(layers_.begin() + 1, layers_.end(),
                                             [](const Layer& one) { return one.in_use; }));
}

}  // namespace pacsvisor
