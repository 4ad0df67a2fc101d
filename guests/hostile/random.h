// Numbers that follow from a seed (Steele, Lea, Flood: "Fast splittable pseudorandom number
// generators", SplitMix64).
#pragma once

#include <cstdint>

namespace pacsvisor::hostile {

class Random {
 public:
  explicit constexpr Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // Below `limit`, which is not 0.
  uint64_t Below(uint64_t limit) { return Next() % limit; }
  uint16_t Next16() { return static_cast<uint16_t>(Next()); }
  uint32_t Next32() { return static_cast<uint32_t>(Next()); }

 private:
  uint64_t state_;
};

}  // namespace pacsvisor::hostile
