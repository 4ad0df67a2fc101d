#include "vmm/disk/raw_disk.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/base/align.h"

namespace pacsvisor {
namespace {

// Requests past the page cache and through it must not meet in one page of it: with O_DIRECT,
// ranges that share a page count as overlapping.
uint64_t OverlapGranularity(const DiskImage& image) {
  return image.direct_fd() < 0 ? kSectorSizeBytes
                               : std::max<uint64_t>(4096, image.direct_alignment().offset_bytes);
}

}  // namespace

Result<std::unique_ptr<RawDisk>> RawDisk::Create(std::shared_ptr<const DiskImage> image,
                                                 std::shared_ptr<IoEngine> engine) {
  std::unique_ptr<RawDisk> disk(new RawDisk(std::move(image), std::move(engine)));
  TRY(disk->AddFiles());
  return disk;
}

Result<std::unique_ptr<RawDisk>> RawDisk::Create(DiskImage image,
                                                 std::shared_ptr<IoEngine> engine) {
  return Create(std::make_shared<const DiskImage>(std::move(image)), std::move(engine));
}

RawDisk::RawDisk(std::shared_ptr<const DiskImage> image, std::shared_ptr<IoEngine> engine)
    : image_(std::move(image)),
      name_(image_->path().string()),
      dirty_(DivideRoundUp<uint64_t>(image_->size_bytes(), kDirtyBlockBytes)),
      runner_(std::move(engine)),
      end_(*image_),
      table_(OverlapGranularity(*image_)) {}

Status RawDisk::AddFiles() {
  IoEngine& engine = runner_.engine();
  file_.buffered = TRY(engine.AddFile(image_->fd()));
  engine_files_.push_back(file_.buffered);
  file_.direct = file_.buffered;
  if (image_->direct_fd() >= 0) {
    file_.direct = TRY(engine.AddFile(image_->direct_fd()));
    engine_files_.push_back(file_.direct);
    file_.memory_alignment_bytes = image_->direct_alignment().memory_bytes;
    file_.offset_alignment_bytes = image_->direct_alignment().offset_bytes;
  }
  return {};
}

RawDisk::~RawDisk() {
  Drain();
  for (const unsigned file : engine_files_) {
    runner_.engine().RemoveFile(file);
  }
}

BlockLimits RawDisk::limits() const {
  return {.physical_block_bytes = 4096,
          .discard_granularity_bytes = 4096,
          .discard = !image_->read_only(),
          .write_zeroes = !image_->read_only()};
}

void RawDisk::Submit(BlockRequest& request) {
  CHECK(!ChangesDisk(request.operation) || !read_only(), "{} on read-only {}",
        BlockOperationName(request.operation), name_);
  CHECK(request.offset_bytes <= size_bytes() &&
            request.size_bytes <= size_bytes() - request.offset_bytes,
        "{} of {} bytes at {} of {}", BlockOperationName(request.operation), request.size_bytes,
        request.offset_bytes, size_bytes());
  const MutexLock lock(mutex_);
  request.generation = gate_.generation();
  request.error_number = 0;
  if (table_.Admit(request)) {
    ready_.push_back(&request);
  }
}

void RawDisk::Kick() {
  {
    const MutexLock lock(mutex_);
    starting_.swap(ready_);
  }
  if (!starting_.empty()) {
    RefuseBehindEnd();
  }
  for (BlockRequest* request : starting_) {
    runner_.Start({.operation = request->operation,
                   .durable = request->durable,
                   .may_unmap = request->may_unmap,
                   .file = file_,
                   .offset_bytes = request->offset_bytes,
                   .size_bytes = request->size_bytes,
                   .iovecs = request->iovecs,
                   .owner = request});
  }
  starting_.clear();
  runner_.Kick();
}

void RawDisk::RefuseBehindEnd() {
  if (end_.Look()) {
    return;
  }
  std::erase_if(starting_, [this](BlockRequest* request) {
    const bool behind = !end_.Holds(request->offset_bytes + request->size_bytes);
    if (behind) {
      refused_.push_back({request, EIO});
    }
    return behind;
  });
}

size_t RawDisk::Poll() {
  finished_.clear();
  finished_.swap(refused_);
  runner_.Poll(finished_);
  if (finished_.empty()) {
    return 0;
  }
  for (const TransferRunner::Finished& finished : finished_) {
    auto& request = *static_cast<BlockRequest*>(finished.owner);
    request.error_number = finished.error_number;
    Report(request);
  }
  bool released = false;
  {
    const MutexLock lock(mutex_);
    for (const TransferRunner::Finished& finished : finished_) {
      auto& request = *static_cast<BlockRequest*>(finished.owner);
      MarkDirty(request);
      table_.Finish(request, ready_);
      gate_.Arrive(request);
    }
    released = !ready_.empty();
  }
  if (released) {
    Kick();
  }
  return finished_.size();
}

void RawDisk::TakeCompletions(std::vector<BlockRequest*>& done) {
  const MutexLock lock(mutex_);
  gate_.Take(done);
}

void RawDisk::CloseGate() {
  const MutexLock lock(mutex_);
  gate_.Close();
  table_.ForEach([this](const BlockRequest& request) { MarkDirty(request); });
}

void RawDisk::OpenGate() {
  const MutexLock lock(mutex_);
  gate_.Open();
}

uint64_t RawDisk::RaiseGeneration() {
  const MutexLock lock(mutex_);
  return gate_.RaiseGeneration();
}

size_t RawDisk::unfinished() const {
  const MutexLock lock(mutex_);
  return table_.size() + gate_.waiting();
}

void RawDisk::Drain() {
  while (true) {
    {
      const MutexLock lock(mutex_);
      if (table_.size() == 0) {
        return;
      }
    }
    Kick();
    if (Poll() == 0) {
      pollfd wait{.fd = wait_fd(), .events = POLLIN, .revents = 0};
      const int result = ::poll(&wait, 1, -1);
      CHECK(result >= 0 || errno == EINTR, "poll: errno {}", errno);
    }
  }
}

void RawDisk::MarkDirty(const BlockRequest& request) {
  MarkChanged(request, kDirtyBlockBytes, dirty_);
}

void RawDisk::Report(const BlockRequest& request) {
  if (request.error_number != 0) {
    log_.Log(LogLevel::kError, "disk {}: {}", name_,
             FailureOf(request, request.error_number).message());
  }
}

}  // namespace pacsvisor
