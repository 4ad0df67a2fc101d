// Which pages of a lazily restored memory are there, and which somebody is fetching: nothing is
// fetched twice, and the last page is known as such.
//
// Whoever is given pages by a Claim fills them, which wakes all who wait for them, and says so with
// Filled. Pages whose fetch failed stay claimed for ever: nobody is to try them again, and who
// waits for them waits until the machine ends. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/base/thread_annotations.h"
#include "vmm/memory/page_set.h"

namespace pacsvisor {

class MissingPages {
 public:
  // All are missing.
  explicit MissingPages(uint64_t page_count) : page_count_(page_count), there_(page_count) {}

  uint64_t page_count() const { return page_count_; }
  uint64_t CountThere() const EXCLUDES(mutex_);
  bool IsThere(BlockIndex page) const EXCLUDES(mutex_);

  // The missing pages round `page`, as many in a row as nobody has claimed and lie in `window`.
  // None: the page is there or on its way.
  std::optional<Extent> ClaimAround(BlockIndex page, Extent window) EXCLUDES(mutex_);
  // The first missing page from `from` on, below `end`, that nobody has claimed.
  std::optional<BlockIndex> Next(uint64_t from, uint64_t end) const EXCLUDES(mutex_);
  // Claimed pages are there. True, once: now all are.
  [[nodiscard]] bool Filled(Extent claimed) EXCLUDES(mutex_);

 private:
  bool IsFree(uint64_t page) const REQUIRES(mutex_);

  const uint64_t page_count_;
  mutable Mutex mutex_;
  PageSet there_ GUARDED_BY(mutex_);
  std::vector<Extent> claimed_ GUARDED_BY(mutex_);  // one a thread
};

}  // namespace pacsvisor
