#include "vmm/memory/missing_pages.h"

#include <algorithm>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kRunPages = 64;  // looked at in one go

bool Holds(Extent extent, uint64_t page) {
  return page >= extent.first.raw() && page - extent.first.raw() < extent.count;
}

}  // namespace

uint64_t MissingPages::CountThere() const {
  const MutexLock lock(mutex_);
  return there_.size();
}

bool MissingPages::IsThere(BlockIndex page) const {
  const MutexLock lock(mutex_);
  return there_.Contains(page);
}

bool MissingPages::IsFree(uint64_t page) const {
  return !there_.Contains(BlockIndex(page)) &&
         std::none_of(claimed_.begin(), claimed_.end(),
                      [page](const Extent& claim) { return Holds(claim, page); });
}

std::optional<Extent> MissingPages::ClaimAround(BlockIndex page, Extent window) {
  CHECK(Holds(window, page.raw()), "page {} outside {}+{}", page, window.first, window.count);
  const MutexLock lock(mutex_);
  if (!IsFree(page.raw())) {
    return std::nullopt;
  }
  uint64_t first = page.raw();
  while (first > window.first.raw() && IsFree(first - 1)) {
    --first;
  }
  uint64_t end = page.raw() + 1;
  while (end < window.first.raw() + window.count && IsFree(end)) {
    ++end;
  }
  claimed_.push_back({BlockIndex(first), end - first});
  return claimed_.back();
}

std::optional<BlockIndex> MissingPages::Next(uint64_t from, uint64_t end) const {
  const MutexLock lock(mutex_);
  while (const std::optional<Extent> run = there_.NextGap(from, end, kRunPages)) {
    const uint64_t run_end = run->first.raw() + run->count;
    for (from = run->first.raw(); from < run_end; ++from) {
      if (IsFree(from)) {
        return BlockIndex(from);
      }
    }
  }
  return std::nullopt;
}

bool MissingPages::Filled(Extent claimed) {
  const MutexLock lock(mutex_);
  const auto found = std::find(claimed_.begin(), claimed_.end(), claimed);
  CHECK(found != claimed_.end(), "pages {}+{} are nobody's", claimed.first, claimed.count);
  claimed_.erase(found);
  there_.Add(claimed);
  return there_.full();
}

}  // namespace pacsvisor
