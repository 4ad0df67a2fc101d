#include "vmm/dirty/dirty_bitmap.h"

#include <bit>

#include "vmm/base/align.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBitsPerWord = 64;

// Bits [first, first + count) of one word; count is 1 to 64.
constexpr uint64_t WordMask(uint64_t first, uint64_t count) {
  const uint64_t ones = count == kBitsPerWord ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
  return ones << first;
}

}  // namespace

DirtyBitmap::DirtyBitmap(uint64_t block_count)
    : block_count_(block_count),
      word_count_(DivideRoundUp(block_count, kBitsPerWord)),
      // Not written here: the words of blocks that are never marked take no memory of the host.
      words_(static_cast<std::atomic<uint64_t>*>(std::calloc(word_count_, sizeof(uint64_t)))) {
  static_assert(sizeof(std::atomic<uint64_t>) == sizeof(uint64_t) &&
                std::atomic<uint64_t>::is_always_lock_free);  // zero bytes are a zero
  CHECK(words_ != nullptr || word_count_ == 0, "no memory for the marks of {} blocks", block_count);
}

void DirtyBitmap::Mark(BlockIndex block) { MarkRange(block, 1); }

void DirtyBitmap::MarkRange(BlockIndex first, uint64_t count) {
  CHECK(first.raw() <= block_count_ && count <= block_count_ - first.raw(), "blocks {}+{} of {}",
        first, count, block_count_);
  uint64_t block = first.raw();
  while (count > 0) {
    const uint64_t bit = block % kBitsPerWord;
    const uint64_t in_word = std::min(count, kBitsPerWord - bit);
    // Always the locked OR: skipping it when the bit looks set would let the load pass our own
    // data's stores, and a harvest in between would copy the block without them.
    words_[block / kBitsPerWord].fetch_or(WordMask(bit, in_word), std::memory_order_release);
    block += in_word;
    count -= in_word;
  }
}

void DirtyBitmap::Return(std::span<const uint64_t> words) {
  CHECK(words.size() == word_count_, "{} words for {}", words.size(), word_count_);
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] != 0) {
      words_[i].fetch_or(words[i], std::memory_order_release);
    }
  }
}

void DirtyBitmap::TakeInto(std::span<uint64_t> words) {
  CHECK(words.size() == word_count_, "{} words for {}", words.size(), word_count_);
  for (size_t i = 0; i < words.size(); ++i) {
    if (words_[i].load(std::memory_order_relaxed) != 0) {
      words[i] |= words_[i].exchange(0, std::memory_order_acquire);
    }
  }
}

bool DirtyBitmap::IsMarked(BlockIndex block) const {
  CHECK(block.raw() < block_count_, "block {} of {}", block, block_count_);
  const uint64_t word = words_[block.raw() / kBitsPerWord].load(std::memory_order_acquire);
  return (word >> (block.raw() % kBitsPerWord) & 1) != 0;
}

uint64_t DirtyBitmap::CountMarked() const {
  uint64_t count = 0;
  for (const auto& word : words()) {
    count += static_cast<uint64_t>(std::popcount(word.load(std::memory_order_relaxed)));
  }
  return count;
}

std::vector<Extent> ExtentsOf(std::span<const uint64_t> words, uint64_t block_count) {
  std::vector<Extent> extents;
  for (uint64_t w = 0; w < words.size(); ++w) {
    uint64_t left = words[w];
    while (left != 0) {
      const auto bit = static_cast<uint64_t>(std::countr_zero(left));
      const auto run = static_cast<uint64_t>(std::countr_one(left >> bit));
      const uint64_t first = w * kBitsPerWord + bit;
      CHECK(first + run <= block_count, "bit {} of {} blocks", first + run - 1, block_count);
      if (!extents.empty() && extents.back().first.raw() + extents.back().count == first) {
        extents.back().count += run;
      } else {
        extents.push_back({BlockIndex(first), run});
      }
      left &= ~WordMask(bit, run);
    }
  }
  return extents;
}

}  // namespace pacsvisor
