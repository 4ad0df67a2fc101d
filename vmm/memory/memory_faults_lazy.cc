// Pages that are missing: served to who waits for them, and fetched ahead.
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/thread_priority.h"
#include "vmm/memory/memory_faults.h"

namespace pacsvisor {

Status MemoryFaults::StartLazy(std::shared_ptr<PageSource> source, std::vector<Extent> first) {
  CHECK(IsWhole() && source != nullptr, "the last restore is not whole yet");
  if (prefetch_thread_.joinable()) {
    prefetch_thread_.join();  // has ended: the last restore is whole
  }
  const auto lazy = std::make_shared<LazyPages>(uffd_, pages_, std::move(source));
  {
    const MutexLock modes_lock(modes_mutex_);
    const MutexLock lock(mutex_);
    lazy_ = lazy;
    working_set_ = first;
    working_set_.resize(std::min(first.size(), kMaxWorkingSetExtents));
    record_until_ns_ = MonotonicNs() + options_.record_ns;
    TRY(AddModes(UFFDIO_REGISTER_MODE_MISSING));
    whole_.store(false, std::memory_order_release);
  }
  TRY(DropContents());  // of what is watched already: nothing can come in between
  if (options_.prefetch) {
    prefetch_thread_ =
        TRY(StartThread(ThreadKind::kFault, "prefetch",
                        [this, lazy, first = std::move(first)] { PrefetchLoop(*lazy, first); }));
  }
  return {};
}

Status MemoryFaults::DropContents() const {
  const bool shared = memory_.memfd() >= 0;
  return pages_.ForEachRegion([shared](std::span<uint8_t> region) -> Status {
    if (madvise(region.data(), region.size(), shared ? MADV_REMOVE : MADV_DONTNEED) != 0) {
      return Error::FromErrno(errno, "cannot empty guest memory");
    }
    if (shared) {
      // Before Linux 6.4, khugepaged fills holes of a memfd without asking. Refused where there are
      // no huge pages: no matter.
      madvise(region.data(), region.size(), MADV_NOHUGEPAGE);
    }
    return {};
  });
}

std::shared_ptr<LazyPages> MemoryFaults::Lazy() const {
  const MutexLock lock(mutex_);
  return lazy_;
}

Status MemoryFaults::ServeMissing(BlockIndex page, std::span<uint8_t> buffer) {
  std::shared_ptr<LazyPages> lazy;
  {
    const MutexLock lock(mutex_);
    lazy = lazy_;
    ++serving_;
  }
  CHECK(lazy != nullptr, "page {} is missing without a restore", page);
  missing_faults_.fetch_add(1, std::memory_order_relaxed);
  const Result<bool> whole = FillRound(*lazy, page, buffer);
  {
    const MutexLock lock(mutex_);
    if (--serving_ == 0) {
      changed_.notify_all();
    }
  }
  if (TRY(whole)) {
    BecomeWhole(*lazy);
  }
  return {};
}

Result<bool> MemoryFaults::FillRound(LazyPages& lazy, BlockIndex page, std::span<uint8_t> buffer) {
  const std::optional<Extent> claimed = TRY(lazy.ClaimAround(page, options_.cluster_pages));
  if (!claimed.has_value()) {
    return false;
  }
  Record(*claimed);
  return lazy.Fill(*claimed, buffer);
}

void MemoryFaults::Record(Extent pages) {
  const MutexLock lock(mutex_);
  if (working_set_.size() < kMaxWorkingSetExtents && MonotonicNs() < record_until_ns_) {
    working_set_.push_back(pages);
  }
}

std::vector<Extent> MemoryFaults::WorkingSet() const {
  const MutexLock lock(mutex_);
  return working_set_;
}

void MemoryFaults::PrefetchLoop(LazyPages& lazy, const std::vector<Extent>& first) {
  const uint64_t size_bytes = options_.prefetch_pages * kPageSizeBytes;
  const auto buffer = std::make_unique_for_overwrite<uint8_t[]>(size_bytes);
  std::optional<TokenBucket> bucket;
  if (options_.prefetch_pages_per_second.has_value()) {
    bucket.emplace(*options_.prefetch_pages_per_second, options_.prefetch_pages, MonotonicNs());
  }
  std::vector<Extent> order = first;
  order.push_back({BlockIndex(0), pages_.page_count()});
  for (Extent pages : order) {
    // A record of an earlier run is a hint: what it names outside memory is left out.
    pages.count = std::min(pages.count,
                           pages_.page_count() - std::min(pages.first.raw(), pages_.page_count()));
    if (pages.count == 0) {
      continue;
    }
    const Status done =
        Prefetch(lazy, pages, {buffer.get(), size_bytes}, bucket.has_value() ? &*bucket : nullptr);
    if (!done.ok()) {
      Fail(done.error());
      return;
    }
  }
}

Status MemoryFaults::Prefetch(LazyPages& lazy, Extent pages, std::span<uint8_t> buffer,
                              TokenBucket* bucket) {
  uint64_t from = pages.first.raw();
  const uint64_t end = from + pages.count;
  while (WaitForTurn(bucket)) {
    const std::optional<Extent> claimed = TRY(lazy.ClaimNext(from, end, options_.prefetch_pages));
    if (!claimed.has_value()) {
      break;  // what is missing yet, a fault thread is fetching
    }
    const bool whole = TRY(lazy.Fill(*claimed, buffer));
    from = claimed->first.raw() + claimed->count;
    prefetched_pages_.fetch_add(claimed->count, std::memory_order_relaxed);
    if (bucket != nullptr) {
      bucket->Take(claimed->count);
    }
    if (whole) {
      BecomeWhole(lazy);
    }
    LetOthersRun();  // nobody waits for a page here: that would be for long
  }
  return {};
}

bool MemoryFaults::WaitForTurn(TokenBucket* bucket) {
  const MutexLock lock(mutex_);
  while (!stopping_ && !failed_) {
    if (serving_ > 0) {
      changed_.wait(mutex_);  // somebody needs a page now
      continue;
    }
    const uint64_t wait_ns = bucket == nullptr ? 0 : bucket->WaitNs(MonotonicNs());
    if (wait_ns == 0) {
      return true;
    }
    changed_.wait_for(mutex_, std::chrono::nanoseconds(wait_ns));
  }
  return false;
}

void MemoryFaults::BecomeWhole(LazyPages& lazy) {
  lazy.ReleaseSource();
  {
    // With write protection on, the kernel would go through all page tables under the lock that
    // faults need. Memory then stays registered, and no page is ever missing.
    const MutexLock lock(modes_mutex_);
    if (modes_ == UFFDIO_REGISTER_MODE_MISSING) {
      const Status done = pages_.ForEachRegion(
          [this](std::span<uint8_t> region) -> Status { return uffd_.Unregister(region); });
      if (!done.ok()) {
        Fail(done.error());
        return;
      }
      modes_ = 0;
    }
  }
  if (memory_.memfd() >= 0) {
    const Status advised = pages_.ForEachRegion([](std::span<uint8_t> region) -> Status {
      madvise(region.data(), region.size(), MADV_HUGEPAGE);  // as GuestMemory has it
      return {};
    });
  }
  {
    const MutexLock lock(mutex_);
    whole_.store(true, std::memory_order_release);
  }
  changed_.notify_all();
  if (options_.on_whole) {
    options_.on_whole();
  }
}

bool MemoryFaults::WaitUntilWhole(uint64_t timeout_ns) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout_ns);
  const MutexLock lock(mutex_);
  while (!IsWhole() && !failed_) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) {
      break;
    }
  }
  return IsWhole();
}

}  // namespace pacsvisor
