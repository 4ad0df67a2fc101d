// The BlockBackend's side of LayeredDisk: requests from Submit to the gate.
#include "vmm/disk/layered_disk.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/base/align.h"

namespace pacsvisor {
namespace {

// Copy-ups and merging work on whole blocks, so overlap is a matter of blocks.
uint64_t BlockGranularity(const DiskImage& image) {
  return std::max<uint64_t>(kLayerBlockBytes, image.direct_alignment().offset_bytes);
}

Status Watch(int epoll, int fd) {
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
    return Error::FromErrno(errno, "epoll_ctl");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<LayeredDisk>> LayeredDisk::Create(std::shared_ptr<const DiskImage> image,
                                                         std::shared_ptr<IoEngine> engine,
                                                         std::shared_ptr<LayerDirectory> directory,
                                                         std::shared_ptr<BlockSource> source) {
  std::unique_ptr<LayeredDisk> disk(new LayeredDisk(std::move(image), std::move(engine),
                                                    std::move(directory), TRY(EventFd::Create()),
                                                    std::move(source)));
  TRY(disk->Start());
  return disk;
}

LayeredDisk::LayeredDisk(std::shared_ptr<const DiskImage> image, std::shared_ptr<IoEngine> engine,
                         std::shared_ptr<LayerDirectory> directory, EventFd event,
                         std::shared_ptr<BlockSource> source)
    : image_(std::move(image)),
      directory_(std::move(directory)),
      source_(std::move(source)),
      name_(image_->path().string()),
      map_blocks_(DivideRoundUp<uint64_t>(image_->size_bytes(), kBlockBytes)),
      event_(std::move(event)),
      dirty_(map_blocks_),
      janitor_(directory_),
      runner_(std::move(engine)),
      end_(*image_),
      commit_(runner_, files_),
      table_(BlockGranularity(*image_)),
      map_(map_blocks_),
      shadow_(map_blocks_) {}

Status LayeredDisk::Start() {
  wait_.Reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!wait_.valid()) {
    return Error::FromErrno(errno, "epoll_create1");
  }
  TRY(Watch(wait_.get(), runner_.engine().wait_fd()));
  TRY(Watch(wait_.get(), event_.fd()));
  files_[0] = TRY(AddToEngine(image_->fd(), image_->direct_fd()));
  // What a former user of the image wrote may be in the host's cache only.
  commit_.Wrote(0);
  // Of any other image DiskImage has seen that there are none. Names are not looked at here: the
  // process may have given up its root directory.
  CHECK(directory_ != nullptr || !image_->with_layers(), "{} is opened without its layers", name_);
  return directory_ == nullptr || read_only() ? Status() : TakeOverLeftover();
}

Status LayeredDisk::TakeOverLeftover() {
  const MutexLock lock(mutex_);  // no other thread knows of this disk yet
  std::optional<LayerDirectory::Leftover> leftover =
      TRY(directory_->Recover(ExpectedHeader(), image_->direct_fd() >= 0, map_));
  if (!leftover.has_value()) {
    return {};
  }
  TRY(CheckSource(leftover->header.source));
  TRY(janitor_.Start());
  for (uint8_t layer = 1; layer <= kMaxLayers; ++layer) {
    LayerFile& file = leftover->layers[layer];
    if (file.buffered.valid()) {
      files_[layer] = TRY(AddToEngine(file.buffered.get(), file.direct.get()));
      layers_[layer] = {std::move(file), true};
      commit_.Wrote(layer);
    }
  }
  log_fd_ = std::move(leftover->log);
  log_file_ = TRY(AddToEngine(log_fd_.get(), -1));
  log_open_ = true;
  has_log_ = true;
  commit_.UseLog(log_file_, leftover->header.log_id, leftover->end.next_sequence,
                 leftover->end.end_bytes);
  layered_ = true;
  if (map_.in_layers() > 0) {
    Log(LogLevel::kWarning,
        "disk {}: {} blocks are in layers that its last machine did not merge; they are merged now",
        name_, map_.in_layers());
  }
  if (map_.in_source() > 0) {
    needs_source_ = true;
    fetcher_ = TRY(BlockFetcher::Create(source_, name_, map_blocks_, [this] { Wake(); }));
  }
  Wake();
  return {};
}

// A block from anywhere else would be a wrong one.
Status LayeredDisk::CheckSource(const std::string& recorded) {
  if (map_.in_source() == 0) {
    return {};
  }
  if (source_ == nullptr) {
    return Error::Make(ErrorCode::kNotFound,
                       "disk {}: {} of its {} blocks are not fetched yet from {}, which is not at "
                       "hand; the disk is not whole without it",
                       name_, map_.in_source(), map_blocks_, recorded);
  }
  if (source_->name() != recorded) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "disk {}: its blocks are fetched from {}, and not from {}", name_, recorded,
                       source_->name());
  }
  return {};
}

LayeredDisk::~LayeredDisk() {
  Drain();
  for (TransferFile& file : files_) {
    RemoveFromEngine(file);
  }
  RemoveFromEngine(log_file_);
  const MutexLock lock(mutex_);
  if (log_open_ && !layered_) {
    // Prepared, and never flipped.
    (void)directory_->RemoveLog();
    for (uint8_t layer = 1; layer <= kMaxLayers; ++layer) {
      (void)directory_->RemoveLayer(layer);
    }
    (void)directory_->Sync();
  }
}

LayerLogHeader LayeredDisk::ExpectedHeader() const {
  struct stat status {};
  const bool file = !image_->is_block_device() && ::fstat(image_->fd(), &status) == 0;
  LayerLogHeader header{.disk_bytes = size_bytes(), .base_identity = file ? status.st_ino : 0};
  const ssize_t size = ::getrandom(&header.log_id, sizeof(header.log_id), 0);
  CHECK(size == sizeof(header.log_id), "getrandom: errno {}", errno);
  return header;
}

Result<TransferFile> LayeredDisk::AddToEngine(int buffered, int direct) {
  TransferFile file;
  file.buffered = TRY(runner_.engine().AddFile(buffered));
  file.direct = file.buffered;
  file.in_engine = true;
  if (direct >= 0) {
    Result<unsigned> added = runner_.engine().AddFile(direct);
    if (!added.ok()) {
      RemoveFromEngine(file);
      return std::move(added).error();
    }
    file.direct = *added;
    file.memory_alignment_bytes = image_->direct_alignment().memory_bytes;
    file.offset_alignment_bytes = image_->direct_alignment().offset_bytes;
  }
  return file;
}

void LayeredDisk::RemoveFromEngine(TransferFile& file) {
  if (!std::exchange(file.in_engine, false)) {
    return;
  }
  runner_.engine().RemoveFile(file.buffered);
  if (file.direct != file.buffered) {
    runner_.engine().RemoveFile(file.direct);
  }
}

BlockLimits LayeredDisk::limits() const {
  return {.physical_block_bytes = kBlockBytes,
          .discard_granularity_bytes = kBlockBytes,
          .discard = !read_only(),
          .write_zeroes = !read_only()};
}

// Signalled first: the worker may look at woken_ too early, never too late.
void LayeredDisk::Wake() {
  event_.Signal();
  woken_.store(true);
}

// ---- requests

void LayeredDisk::Submit(BlockRequest& request) {
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

void LayeredDisk::Kick() {
  StartReady();
  commit_.Step();
  runner_.Kick();
  if (!landed_.empty() || commit_.has_done()) {
    Wake();
  }
}

void LayeredDisk::StartReady() {
  {
    const MutexLock lock(mutex_);
    for (BlockRequest* request : ready_) {
      starting_.push_back(&Plan(*request));
    }
    ready_.clear();
  }
  if (starting_.empty()) {
    return;
  }
  const bool whole = end_.Look();
  for (Operation* operation : starting_) {
    if (!whole && BehindEnd(*operation)) {
      operation->error_number = EIO;
      landed_.push_back(operation);
    } else {
      Launch(*operation);
    }
  }
  starting_.clear();
}

// From here on a change keeps its target, whatever is flipped or released meanwhile.
LayeredDisk::Operation& LayeredDisk::Plan(BlockRequest& request) {
  if (free_.empty()) {
    free_.push_back(&operations_.emplace_back());
  }
  Operation& operation = *free_.back();
  free_.pop_back();
  operation.disk = this;
  operation.request = &request;
  operation.merge = IsMerge(request);
  operation.direct = !layered_;
  operation.target = operation.merge ? 0 : active_;
  operation.epoch = epoch_;
  operation.plan.Clear();
  operation.writing = false;
  operation.transfers = 0;
  operation.error_number = 0;
  if (ChangesDisk(request.operation)) {
    ++changes_;
    to_layers_ += operation.target != 0 ? 1 : 0;
  }
  if (operation.merge) {
    // One that waited while a layer became active: what it meant to move may be in that layer.
    if (active_ != 0) {
      return operation;
    }
    operation.merge_of = WhatIsMerged(request);
    PlanMerge(operation.merge_of, request.offset_bytes / kBlockBytes,
              DivideRoundUp<uint64_t>(request.size_bytes, kBlockBytes), map_, size_bytes(),
              operation.plan);
  } else if (!operation.direct && request.operation != BlockOperation::kFlush) {
    PlanRequest(request, map_, operation.target, size_bytes(), operation.plan);
  }
  return operation;
}

bool LayeredDisk::BehindEnd(const Operation& operation) const {
  const BlockRequest& request = *operation.request;
  if (operation.direct) {
    return !end_.Holds(request.offset_bytes + request.size_bytes);
  }
  const auto behind = [this](const LayerMove& move) {
    return move.layer == 0 && !end_.Holds(move.offset_bytes + move.size_bytes);
  };
  return std::any_of(operation.plan.reads.begin(), operation.plan.reads.end(), behind) ||
         std::any_of(operation.plan.writes.begin(), operation.plan.writes.end(), behind);
}

void LayeredDisk::Launch(Operation& operation) {
  const BlockRequest& request = *operation.request;
  if (operation.direct) {
    operation.transfers = 1;
    operation.writing = true;
    runner_.Start({.operation = request.operation,
                   .durable = request.durable,
                   .may_unmap = request.may_unmap,
                   .file = files_[0],
                   .offset_bytes = request.offset_bytes,
                   .size_bytes = request.size_bytes,
                   .iovecs = request.iovecs,
                   .owner = static_cast<TransferOwner*>(&operation)});
    return;
  }
  if (request.operation == BlockOperation::kFlush) {
    commit_.Wait(&operation);
    return;
  }
  for (const iovec& part : operation.plan.zeroed) {
    std::memset(part.iov_base, 0, part.iov_len);
  }
  StartMoves(operation, operation.plan.reads);
  if (operation.transfers == 0) {
    TransferDone(operation, 0);
  }
}

void LayeredDisk::StartMoves(Operation& operation, std::vector<LayerMove>& moves) {
  operation.transfers = moves.size();
  for (const LayerMove& move : moves) {
    if (move.layer == kSourceLayer) {
      CHECK(move.operation == BlockOperation::kRead);
      const std::span<const iovec> iovecs =
          move.request_iovecs ? operation.request->iovecs : std::span<const iovec>(move.iovecs);
      fetcher_->Start({.offset_bytes = move.offset_bytes,
                       .size_bytes = move.size_bytes,
                       .iovecs = {iovecs.begin(), iovecs.end()},
                       .background = operation.merge,
                       .owner = static_cast<TransferOwner*>(&operation)});
      continue;
    }
    runner_.Start({.operation = move.operation,
                   .may_unmap = move.may_unmap,
                   .file = files_[move.layer],
                   .offset_bytes = move.offset_bytes,
                   .size_bytes = move.size_bytes,
                   .iovecs = move.request_iovecs ? operation.request->iovecs
                                                 : std::span<const iovec>(move.iovecs),
                   .owner = static_cast<TransferOwner*>(&operation)});
  }
}

void LayeredDisk::TransferDone(Operation& operation, int error_number) {
  operation.error_number = operation.error_number != 0 ? operation.error_number : error_number;
  if (operation.transfers > 0 && --operation.transfers > 0) {
    return;
  }
  if (!operation.writing && operation.error_number == 0 && !operation.plan.writes.empty()) {
    operation.writing = true;
    if (operation.merge && operation.merge_of == MergeOf::kSource) {
      PunchFetchedZeroes(operation.plan);
    }
    RunOverlays(*operation.request, operation.plan);
    StartMoves(operation, operation.plan.writes);
    return;
  }
  landed_.push_back(&operation);
}

// ---- completions

size_t LayeredDisk::Poll() {
  if (woken_.exchange(false)) {
    event_.Consume();
    TakeNewFiles();
  }
  finished_.clear();
  runner_.Poll(finished_);
  for (const TransferRunner::Finished& finished : finished_) {
    static_cast<TransferOwner*>(finished.owner)->TransferDone(finished.error_number);
  }
  PollFetches();
  size_t count = 0;
  do {
    count += Land();
    if (log_open_) {
      MergeMore();
      Settle();
    }
    StartReady();
    commit_.Step();
  } while (!landed_.empty() || commit_.has_done());
  runner_.Kick();
  return count;
}

void LayeredDisk::PollFetches() {
  if (fetcher_ == nullptr) {
    return;
  }
  fetched_.clear();
  const std::optional<BlockFetcher::Zeroes> zeroes = fetcher_->Poll(fetched_);
  if (zeroes.has_value()) {
    const MutexLock lock(mutex_);
    known_zeroes_ = *zeroes;
  }
  for (const BlockFetcher::Finished& fetched : fetched_) {
    fetched.owner->TransferDone(fetched.error_number);
  }
}

// Lets arrive what has come to its end; returns how many of the guest's requests that were.
size_t LayeredDisk::Land() {
  committed_.clear();
  commit_.TakeDone(committed_);
  landing_.clear();
  landing_.swap(landed_);
  const std::optional<int> round = commit_.TakeOutcome();
  if (landing_.empty() && committed_.empty() && !round.has_value()) {
    return 0;
  }
  for (const LayerCommit::Done& done : committed_) {
    static_cast<Operation*>(done.waiter)->error_number = done.error_number;
    Report(*static_cast<Operation*>(done.waiter));
  }
  for (const Operation* operation : landing_) {
    Report(*operation);
    if (operation->error_number == 0) {
      ApplyChanges(*operation);
    }
  }
  if (round.value_or(0) != 0 && committed_.empty()) {
    log_.Log(LogLevel::kError, "disk {}: recording where blocks are in {}: {}", name_,
             directory_->name(), Error::FromErrno(*round, "sync").message());
  }
  size_t count = 0;
  {
    const MutexLock lock(mutex_);
    if (round.has_value()) {
      // A round that succeeds is a reason to try again what failed.
      merge_error_ = *round;
      fetch_error_ = *round == 0 ? 0 : fetch_error_;
    }
    for (Operation* operation : landing_) {
      count += LandOne(*operation) ? 1 : 0;
    }
    for (const LayerCommit::Done& done : committed_) {
      Finish(*static_cast<Operation*>(done.waiter));
      ++count;
    }
  }
  changed_.notify_all();
  return count;
}

// True when a request of the guest has finished.
bool LayeredDisk::LandOne(Operation& operation) {
  const BlockRequest& request = *operation.request;
  if (operation.writing) {
    if (operation.direct) {
      commit_.Wrote(0);
    }
    for (const LayerMove& move : operation.plan.writes) {
      commit_.Wrote(move.layer);
    }
  }
  if (operation.error_number == 0 && request.durable && ChangesDisk(request.operation) &&
      !operation.direct) {
    commit_.Wait(&operation);
    return false;
  }
  Finish(operation);
  return !operation.merge;
}

// A discard may change a quarter of a million blocks at once: a Flip does not wait for all of them.
// The request is still unfinished, so whoever comes in between waits for it, or counts it as in
// flight.
void LayeredDisk::ApplyChanges(const Operation& operation) {
  for (const PlaceChange& change : operation.plan.changes) {
    const uint64_t end = change.first + change.count;
    for (uint64_t first = change.first; first < end; first += kBlocksAtOnce) {
      const MutexLock lock(mutex_);
      for (uint64_t block = first; block < std::min(end, first + kBlocksAtOnce); ++block) {
        ApplyChange(block, change.place);
      }
    }
  }
}

void LayeredDisk::ApplyChange(uint64_t block, BlockPlace place) {
  const BlockPlace before = map_.Get(block);
  if (before == place) {
    return;
  }
  if (view_open_ && place.layer() == active_ && before.layer() != active_) {
    shadow_.Set(block, before);
  }
  map_.Set(block, place);
  commit_.Changed({block, 1, place});
}

void LayeredDisk::Finish(Operation& operation) {
  BlockRequest& request = *operation.request;
  request.error_number = operation.error_number;
  if (ChangesDisk(request.operation)) {
    --changes_;
    to_layers_ -= operation.target != 0 ? 1 : 0;
    seal_pending_ -= operation.epoch < epoch_ ? 1 : 0;
  }
  table_.Finish(request, ready_);
  if (operation.merge) {
    --merges_;
    // The owner is a slot of merge_slots_.
    for (MergeSlot& slot : merge_slots_) {
      slot.in_use = slot.in_use && &slot.request != &request;
    }
    if (operation.error_number != 0) {
      const bool fetch = operation.merge_of == MergeOf::kSource && !operation.writing;
      (fetch ? fetch_error_ : merge_error_) = operation.error_number;
    }
  } else {
    MarkDirty(request);
    gate_.Arrive(request);
  }
  operation.plan.Clear();
  free_.push_back(&operation);
}

void LayeredDisk::TakeCompletions(std::vector<BlockRequest*>& done) {
  const MutexLock lock(mutex_);
  gate_.Take(done);
}

void LayeredDisk::CloseGate() {
  const MutexLock lock(mutex_);
  gate_.Close();
  table_.ForEach([this](const BlockRequest& request) { MarkDirty(request); });
}

void LayeredDisk::OpenGate() {
  const MutexLock lock(mutex_);
  gate_.Open();
}

uint64_t LayeredDisk::RaiseGeneration() {
  const MutexLock lock(mutex_);
  return gate_.RaiseGeneration();
}

size_t LayeredDisk::unfinished() const {
  const MutexLock lock(mutex_);
  return table_.size() - merges_ + gate_.waiting();
}

void LayeredDisk::Drain() {
  while (StartDraining()) {
    Kick();
    if (Poll() == 0 && StartDraining()) {
      pollfd wait{.fd = wait_fd(), .events = POLLIN, .revents = 0};
      const int result = ::poll(&wait, 1, -1);
      CHECK(result >= 0 || errno == EINTR, "poll: errno {}", errno);
    }
  }
}

// False when nothing is left to wait for; until then no new merging begins.
bool LayeredDisk::StartDraining() {
  const MutexLock lock(mutex_);
  draining_ = table_.size() > 0 || commit_.running();
  return draining_;
}

// Merging changes nothing.
void LayeredDisk::MarkDirty(const BlockRequest& request) {
  if (!IsMerge(request)) {
    MarkChanged(request, kBlockBytes, dirty_);
  }
}

void LayeredDisk::Report(const Operation& operation) {
  if (operation.error_number != 0) {
    log_.Log(LogLevel::kError, "disk {}: {}{}", name_,
             operation.merge ? "bringing blocks into the image: " : "",
             FailureOf(*operation.request, operation.error_number).message());
  }
}

}  // namespace pacsvisor
