// A set of pages of the memory space, one bit a page. Threads: one at a time.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>

#include "vmm/dirty/extent.h"

namespace pacsvisor {

class PageSet {
 public:
  // Empty. What is never added to takes no memory of the host.
  explicit PageSet(uint64_t page_count);

  uint64_t size() const { return size_; }  // pages in it
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == page_count_; }
  bool Contains(BlockIndex page) const;
  void Add(Extent pages);
  void Remove(Extent pages);

  // The first run of pages in the set (not in the set) from `from` on that lies below `end`; at
  // most `max_pages` of it. None: there is no more. `end` at most the space's page count.
  std::optional<Extent> NextRun(uint64_t from, uint64_t end, uint64_t max_pages) const {
    return Next(from, end, max_pages, 0);
  }
  std::optional<Extent> NextGap(uint64_t from, uint64_t end, uint64_t max_pages) const {
    return Next(from, end, max_pages, ~uint64_t{0});
  }

  // Bit b of word w is page 64 w + b, as in DirtyBitmap.
  std::span<const uint64_t> words() const { return {words_.get(), word_count_}; }

 private:
  struct Free {
    void operator()(uint64_t* words) const { std::free(words); }
  };
  // The first page from `from` on, below `end`, whose bit XOR `invert`'s is set; `end` if none.
  uint64_t Find(uint64_t from, uint64_t end, uint64_t invert) const;
  std::optional<Extent> Next(uint64_t from, uint64_t end, uint64_t max_pages,
                             uint64_t invert) const;

  uint64_t page_count_;
  uint64_t word_count_;
  uint64_t size_ = 0;
  std::unique_ptr<uint64_t[], Free> words_;
};

}  // namespace pacsvisor
