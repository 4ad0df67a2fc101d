// Memory for rings and buffers, a piece a processor; everything is given back at once.
#pragma once

#include <cstdint>

namespace pacsvisor::hostile {

class Arena {
 public:
  static constexpr uint64_t kBytes = uint64_t{4} << 20;

  constexpr Arena() = default;
  void Start(uint64_t address) {
    begin_ = address;
    next_ = address;
  }
  uint64_t begin() const { return begin_; }
  uint64_t end() const { return begin_ + kBytes; }

  // Zeroed. Starts over from the beginning when there is no room: what lies there is of an attack
  // that has ended.
  uint64_t Take(uint64_t bytes, uint64_t alignment = 16);
  // What was taken is free again.
  void Clear() { next_ = begin_; }

 private:
  uint64_t begin_ = 0;
  uint64_t next_ = 0;
};

}  // namespace pacsvisor::hostile
