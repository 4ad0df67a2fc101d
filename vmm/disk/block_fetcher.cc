#include "vmm/disk/block_fetcher.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "vmm/base/align.h"
#include "vmm/base/thread.h"
#include "vmm/base/thread_priority.h"
#include "vmm/disk/block_map.h"

namespace pacsvisor {
namespace {

// What is fetched into private memory before it goes to the guest's buffers.
constexpr uint64_t kFetchBlocks = 64;

void Scatter(std::span<const uint8_t> bytes, std::vector<iovec>& iovecs, size_t& next) {
  while (!bytes.empty()) {
    iovec& part = iovecs[next];
    const size_t size = std::min(bytes.size(), part.iov_len);
    std::memcpy(part.iov_base, bytes.data(), size);
    part.iov_base = static_cast<uint8_t*>(part.iov_base) + size;
    part.iov_len -= size;
    next += part.iov_len == 0 ? 1 : 0;
    bytes = bytes.subspan(size);
  }
}

}  // namespace

Result<std::unique_ptr<BlockFetcher>> BlockFetcher::Create(std::shared_ptr<BlockSource> source,
                                                           std::string disk, uint64_t block_count,
                                                           std::function<void()> wake) {
  std::unique_ptr<BlockFetcher> fetcher(
      new BlockFetcher(std::move(source), std::move(disk), block_count, std::move(wake)));
  for (std::thread& thread : fetcher->threads_) {
    thread =
        TRY(StartThread(ThreadKind::kFault, "disk-fetch", [self = fetcher.get()] { self->Run(); }));
  }
  return fetcher;
}

BlockFetcher::~BlockFetcher() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) {
      thread.join();
    }
  }
}

void BlockFetcher::Start(Fetch fetch) {
  {
    const MutexLock lock(mutex_);
    (fetch.background ? background_ : urgent_).push_back(std::move(fetch));
  }
  changed_.notify_one();
}

std::optional<BlockFetcher::Zeroes> BlockFetcher::Poll(std::vector<Finished>& finished) {
  const MutexLock lock(mutex_);
  finished.insert(finished.end(), finished_.begin(), finished_.end());
  finished_.clear();
  return std::exchange(zeroes_, std::nullopt);
}

void BlockFetcher::Run() {
  std::vector<uint8_t> memory;
  while (true) {
    Fetch fetch;
    {
      const MutexLock lock(mutex_);
      std::deque<Fetch>* queue = NextQueue();
      while (queue == nullptr && !stopping_) {
        changed_.wait(mutex_);
        queue = NextQueue();
      }
      if (queue == nullptr) {
        return;
      }
      fetch = std::move(queue->front());
      queue->pop_front();
      background_running_ += fetch.background ? 1 : 0;
    }
    const Status carried = Carry(fetch, memory);
    if (!carried.ok()) {
      log_.Log(LogLevel::kError, "disk {}: {} bytes at byte {} cannot be fetched from {}: {}",
               disk_, fetch.size_bytes, fetch.offset_bytes, source_->name(),
               carried.error().message());
    }
    const std::optional<Zeroes> zeroes =
        carried.ok() && fetch.background ? ZeroesBehind(fetch) : std::nullopt;
    {
      const MutexLock lock(mutex_);
      finished_.push_back({fetch.owner, carried.ok() ? 0 : EIO});
      zeroes_ = zeroes.has_value() ? zeroes : zeroes_;
      background_running_ -= fetch.background ? 1 : 0;
    }
    wake_();
    if (fetch.background) {
      LetOthersRun();
    }
  }
}

std::optional<BlockFetcher::Zeroes> BlockFetcher::ZeroesBehind(const Fetch& fetch) {
  const uint64_t first = DivideRoundUp(fetch.offset_bytes + fetch.size_bytes, kLayerBlockBytes);
  if (first >= block_count_) {
    return std::nullopt;
  }
  const Result<uint64_t> run = source_->ZeroRun(BlockIndex(first));
  return run.ok() && *run > 0
             ? std::optional(Zeroes{first, first + std::min(*run, block_count_ - first)})
             : std::nullopt;
}

// Null: nothing that this thread may do.
std::deque<BlockFetcher::Fetch>* BlockFetcher::NextQueue() {
  if (!urgent_.empty()) {
    return &urgent_;
  }
  return background_.empty() || background_running_ + 1 >= kThreads ? nullptr : &background_;
}

Result<bool> BlockFetcher::IsZero(uint64_t first, uint64_t end) {
  while (first < end) {
    const uint64_t run = TRY(source_->ZeroRun(BlockIndex(first)));
    if (run == 0) {
      return false;
    }
    first += std::min(run, end - first);
  }
  return true;
}

Status BlockFetcher::Carry(const Fetch& fetch, std::vector<uint8_t>& memory) {
  std::vector<iovec> iovecs = fetch.iovecs;
  size_t next = 0;
  const uint64_t end = fetch.offset_bytes + fetch.size_bytes;
  for (uint64_t at = fetch.offset_bytes; at < end;) {
    const uint64_t first = at / kLayerBlockBytes;
    const uint64_t last = std::min(first + kFetchBlocks, DivideRoundUp(end, kLayerBlockBytes));
    memory.resize((last - first) * kLayerBlockBytes);
    if (TRY(IsZero(first, last))) {
      std::fill(memory.begin(), memory.end(), uint8_t{0});
    } else {
      TRY(source_->Fetch(BlockIndex(first), memory));
    }
    const uint64_t until = std::min(end, last * kLayerBlockBytes);
    Scatter(std::span(memory).subspan(at - first * kLayerBlockBytes, until - at), iovecs, next);
    at = until;
  }
  return {};
}

}  // namespace pacsvisor
