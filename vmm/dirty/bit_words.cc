#include "vmm/dirty/bit_words.h"

#include <algorithm>

#include "vmm/base/align.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kWordBits = 64;

// The lowest `count` bits; count is 1 to 64.
constexpr uint64_t LowBits(uint64_t count) { return ~uint64_t{0} >> (kWordBits - count); }

void CheckRange(uint64_t first, uint64_t count, size_t word_count) {
  const uint64_t bits = word_count * kWordBits;
  CHECK(first <= bits && count <= bits - first, "bits {}+{} of {} words", first, count, word_count);
}

}  // namespace

void OrBitsAt(std::span<uint64_t> to, uint64_t first, std::span<const uint64_t> from,
              uint64_t bit_count) {
  CheckRange(first, bit_count, to.size());
  CheckRange(0, bit_count, from.size());
  const uint64_t shift = first % kWordBits;
  size_t target = first / kWordBits;
  for (uint64_t done = 0; done < bit_count; done += kWordBits, ++target) {
    const uint64_t bits = from[done / kWordBits] & LowBits(std::min(bit_count - done, kWordBits));
    if (bits == 0) {
      continue;
    }
    to[target] |= bits << shift;
    const uint64_t carried = shift == 0 ? 0 : bits >> (kWordBits - shift);
    if (carried != 0) {
      to[target + 1] |= carried;
    }
  }
}

void SetBits(std::span<uint64_t> words, uint64_t first, uint64_t count) {
  CheckRange(first, count, words.size());
  while (count > 0) {
    const uint64_t bit = first % kWordBits;
    const uint64_t in_word = std::min(count, kWordBits - bit);
    words[first / kWordBits] |= LowBits(in_word) << bit;
    first += in_word;
    count -= in_word;
  }
}

}  // namespace pacsvisor
