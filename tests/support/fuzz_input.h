// The bytes of a fuzz target's input, taken from the front; zeroes when they run out.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>

namespace pacsvisor {

class FuzzInput {
 public:
  explicit FuzzInput(std::span<const uint8_t> bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }
  // Little endian.
  template <std::unsigned_integral T>
  T Take() {
    T value = 0;
    const std::span<const uint8_t> bytes = TakeBytes(sizeof(T));
    if (!bytes.empty()) {
      std::memcpy(&value, bytes.data(), bytes.size());
    }
    return value;
  }
  std::span<const uint8_t> TakeBytes(size_t limit) {
    const std::span<const uint8_t> bytes = rest_.first(std::min(limit, rest_.size()));
    rest_ = rest_.subspan(bytes.size());
    return bytes;
  }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace pacsvisor
