#include "vmm/memory/page_set.h"

#include <algorithm>
#include <bit>

#include "vmm/base/align.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kPagesPerWord = 64;

// Calls `each(word, mask)` for the words that hold bits of `pages`.
template <typename Each>
void ForEachWord(Extent pages, Each&& each) {
  uint64_t page = pages.first.raw();
  const uint64_t end = page + pages.count;
  while (page < end) {
    const uint64_t bit = page % kPagesPerWord;
    const uint64_t count = std::min(end - page, kPagesPerWord - bit);
    each(page / kPagesPerWord, (~uint64_t{0} >> (kPagesPerWord - count)) << bit);
    page += count;
  }
}

}  // namespace

PageSet::PageSet(uint64_t page_count)
    : page_count_(page_count),
      word_count_(DivideRoundUp(page_count, kPagesPerWord)),
      words_(static_cast<uint64_t*>(std::calloc(word_count_, sizeof(uint64_t)))) {
  CHECK(words_ != nullptr || word_count_ == 0, "no memory for a set of {} pages", page_count);
}

bool PageSet::Contains(BlockIndex page) const {
  CHECK(page.raw() < page_count_, "page {} of {}", page, page_count_);
  return (words_[page.raw() / kPagesPerWord] >> (page.raw() % kPagesPerWord) & 1) != 0;
}

void PageSet::Add(Extent pages) {
  CHECK(pages.first.raw() <= page_count_ && pages.count <= page_count_ - pages.first.raw(),
        "pages {}+{} of {}", pages.first, pages.count, page_count_);
  ForEachWord(pages, [this](uint64_t word, uint64_t mask) {
    size_ += static_cast<uint64_t>(std::popcount(mask & ~words_[word]));
    words_[word] |= mask;
  });
}

void PageSet::Remove(Extent pages) {
  CHECK(pages.first.raw() <= page_count_ && pages.count <= page_count_ - pages.first.raw(),
        "pages {}+{} of {}", pages.first, pages.count, page_count_);
  ForEachWord(pages, [this](uint64_t word, uint64_t mask) {
    const uint64_t removed = mask & words_[word];
    if (removed != 0) {  // a word that is not written takes no memory
      size_ -= static_cast<uint64_t>(std::popcount(removed));
      words_[word] ^= removed;
    }
  });
}

uint64_t PageSet::Find(uint64_t from, uint64_t end, uint64_t invert) const {
  while (from < end) {
    const uint64_t bits = (words_[from / kPagesPerWord] ^ invert) >> (from % kPagesPerWord);
    if (bits != 0) {
      return std::min(end, from + static_cast<uint64_t>(std::countr_zero(bits)));
    }
    from = AlignDown(from, kPagesPerWord) + kPagesPerWord;
  }
  return end;
}

std::optional<Extent> PageSet::Next(uint64_t from, uint64_t end, uint64_t max_pages,
                                    uint64_t invert) const {
  CHECK(end <= page_count_ && max_pages > 0, "{} of {}", end, page_count_);
  const uint64_t first = Find(from, end, invert);
  if (first >= end) {
    return std::nullopt;
  }
  const uint64_t limit = max_pages < end - first ? first + max_pages : end;
  return Extent{BlockIndex(first), Find(first, limit, ~invert) - first};
}

}  // namespace pacsvisor
