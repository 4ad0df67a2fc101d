// Copies of pages on their way from guest memory to the store. Of a page that is copied again only
// the latest copy is kept, so that what the guest overwrites meanwhile never reaches a pack.
// Room comes in pieces that are faulted in when they are made: a copy in the pause faults nowhere.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/mapping.h"
#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"

namespace pacsvisor {

class PageStaging {
 public:
  // For pages 0 to `page_count` - 1.
  explicit PageStaging(uint64_t page_count);

  uint64_t size() const { return pages_.size(); }  // pages that are staged
  uint64_t capacity() const { return capacity_; }  // pages there is room for
  uint64_t room() const { return capacity_ - size(); }
  // Makes room for `pages` in all. kNoSpace: the host has not the memory.
  Status Reserve(uint64_t pages);

  // Where a copy of `page` goes: the place that it has, or a new one, for which room is made where
  // there is none left.
  Result<std::span<uint8_t>> PlaceFor(BlockIndex page);

  // Every staged page in rising order; stops at the first error.
  Status ForEach(
      const std::function<Status(BlockIndex page, std::span<const uint8_t> bytes)>& visit) const;
  // Nothing is staged any more; the room stays.
  void Clear();

 private:
  struct Free {
    void operator()(uint32_t* slots) const { std::free(slots); }
  };
  std::span<uint8_t> Slot(uint64_t slot) const;

  const uint64_t page_count_;
  uint64_t capacity_ = 0;
  std::vector<Mapping> pieces_;
  std::vector<BlockIndex> pages_;  // by slot
  // By page: slot + 1, or 0. Not written here: takes no memory for pages that are never staged.
  std::unique_ptr<uint32_t[], Free> slots_;
};

}  // namespace pacsvisor
