// The pages of one lazy restore, filled from their source: round a fault, or the next ones in the
// background. The threads that call it are those of MemoryFaults.
//
// What is filled here is dirty to nobody: it is what the snapshot holds.
// Threads: any, each with a buffer of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/memory/host_pages.h"
#include "vmm/memory/missing_pages.h"
#include "vmm/memory/page_source.h"
#include "vmm/memory/user_fault_fd.h"

namespace pacsvisor {

class LazyPages {
 public:
  // Zero runs are filled in pieces of this: a fault elsewhere need not wait for gigabytes.
  static constexpr uint64_t kZeroPages = 512;

  // `uffd` and `pages` outlive it; the memory is registered for missing pages.
  LazyPages(const UserFaultFd& uffd, const HostPages& pages, std::shared_ptr<PageSource> source)
      : uffd_(uffd), pages_(pages), missing_(pages.page_count()), source_(std::move(source)) {}

  const MissingPages& missing() const { return missing_; }

  // A thread waits for `page`: it and what is missing in the aligned cluster of `cluster_pages` (a
  // power of two), or a whole run of zeroes, is now the caller's to Fill. None: the page is there
  // by now, and the thread was woken, or another thread of ours is about to fill it.
  Result<std::optional<Extent>> ClaimAround(BlockIndex page, uint64_t cluster_pages);
  // The next missing page from `from` on, below `end`, and what lies round it likewise.
  Result<std::optional<Extent>> ClaimNext(uint64_t from, uint64_t end, uint64_t cluster_pages);
  // Fetches as many pages at a time as `buffer` holds. True, once: now every page is there.
  Result<bool> Fill(Extent claimed, std::span<uint8_t> buffer);
  // After the last page: the source is not needed any more.
  void ReleaseSource() EXCLUDES(mutex_);

 private:
  std::shared_ptr<PageSource> Source() const EXCLUDES(mutex_);
  // What is filled in one go round `page`: a cluster, or a run of zeroes from the page on.
  Result<Extent> WindowAround(PageSource& source, BlockIndex page, uint64_t cluster_pages) const;
  // The leading pages of `left`, which are zero, or as many others as `buffer` holds; how many.
  Result<uint64_t> FillLeading(PageSource& source, Extent left, std::span<uint8_t> buffer) const;
  // How many pages of `left` from the second on are not known to be zero, and itself.
  Result<uint64_t> DataRun(PageSource& source, Extent left) const;

  // Constant after construction.
  const UserFaultFd& uffd_;
  const HostPages& pages_;
  // Any thread.
  MissingPages missing_;
  // Guarded.
  mutable Mutex mutex_;
  std::shared_ptr<PageSource> source_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
