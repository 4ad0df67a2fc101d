// Alignment arithmetic and unsigned sums that notice overflow.
#pragma once

#include <concepts>
#include <optional>

namespace pacsvisor {

template <std::unsigned_integral T>
constexpr bool IsPowerOfTwo(T value) {
  return value != 0 && (value & (value - 1)) == 0;
}

// `alignment` is a power of two. Wraps for values within one alignment of the type's end.
template <std::unsigned_integral T>
constexpr T AlignUp(T value, T alignment) {
  return static_cast<T>((value + alignment - 1) & ~(alignment - 1));
}

template <std::unsigned_integral T>
constexpr T AlignDown(T value, T alignment) {
  return static_cast<T>(value & ~(alignment - 1));
}

template <std::unsigned_integral T>
constexpr bool IsAligned(T value, T alignment) {
  return (value & (alignment - 1)) == 0;
}

template <std::unsigned_integral T>
constexpr T DivideRoundUp(T value, T divisor) {
  return static_cast<T>(value / divisor + (value % divisor != 0 ? 1 : 0));
}

template <std::unsigned_integral T>
constexpr std::optional<T> CheckedAdd(T left, T right) {
  T sum;
  if (__builtin_add_overflow(left, right, &sum)) {
    return std::nullopt;
  }
  return sum;
}

template <std::unsigned_integral T>
constexpr std::optional<T> CheckedMultiply(T left, T right) {
  T product;
  if (__builtin_mul_overflow(left, right, &product)) {
    return std::nullopt;
  }
  return product;
}

inline constexpr unsigned long kKiB = 1024;
inline constexpr unsigned long kMiB = 1024 * kKiB;
inline constexpr unsigned long kGiB = 1024 * kMiB;

}  // namespace pacsvisor
