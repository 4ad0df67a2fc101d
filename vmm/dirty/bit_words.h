// Bitmaps as 64-bit words: bit b of word w is number 64 w + b (DirtyBitmap::TakeInto's form).
#pragma once

#include <cstdint>
#include <span>

namespace pacsvisor {

// ORs the first `bit_count` bits of `from` into `to`, from its bit `first` on, which need not begin
// a word: a slot's log into the set of the whole space. What lies behind `bit_count` in the last
// word of `from` is left out. CHECKs that both are long enough.
void OrBitsAt(std::span<uint64_t> to, uint64_t first, std::span<const uint64_t> from,
              uint64_t bit_count);

// Sets bits [first, first + count).
void SetBits(std::span<uint64_t> words, uint64_t first, uint64_t count);

}  // namespace pacsvisor
