#include "vmm/dirty/bit_words.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace pacsvisor {
namespace {

bool BitOf(const std::vector<uint64_t>& words, uint64_t bit) {
  return (words[bit / 64] >> (bit % 64) & 1) != 0;
}

TEST(BitWords, OrsALogAtAnyPlaceAndNothingElse) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint64_t> from(1 + random() % 4);
    for (uint64_t& word : from) {
      word = random() & random();
    }
    const uint64_t count = random() % (from.size() * 64 + 1);
    const uint64_t first = random() % 200;
    std::vector<uint64_t> to((first + count + 63) / 64);  // no word to spare
    for (uint64_t& word : to) {
      word = random() & random();
    }
    const std::vector<uint64_t> before = to;
    OrBitsAt(to, first, from, count);
    for (uint64_t bit = 0; bit < to.size() * 64; ++bit) {
      const bool in_log = bit >= first && bit - first < count && BitOf(from, bit - first);
      ASSERT_EQ(BitOf(to, bit), BitOf(before, bit) || in_log) << first << "+" << count;
    }
  }
}

TEST(BitWords, SetsARangeAndNothingElse) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint64_t> words(5);
    const uint64_t first = random() % 321;
    const uint64_t count = random() % (321 - first);
    SetBits(words, first, count);
    for (uint64_t bit = 0; bit < words.size() * 64; ++bit) {
      ASSERT_EQ(BitOf(words, bit), bit >= first && bit - first < count) << first << "+" << count;
    }
  }
}

}  // namespace
}  // namespace pacsvisor
