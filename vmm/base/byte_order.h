// Little-endian numbers in byte arrays: registers, rings and file formats.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>

namespace pacsvisor {

static_assert(std::endian::native == std::endian::little, "pacsvisor runs on x86-64");

// `bytes` holds at least sizeof(T).
template <std::unsigned_integral T>
T LoadLe(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

template <std::unsigned_integral T>
void StoreLe(uint8_t* bytes, T value) {
  std::memcpy(bytes, &value, sizeof(value));
}

// A register access of 1 to 8 bytes as a number, and a number into such an access (truncated).
inline uint64_t LoadLeBytes(std::span<const uint8_t> bytes) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data(), bytes.size() < 8 ? bytes.size() : 8);
  return value;
}

inline void StoreLeBytes(std::span<uint8_t> bytes, uint64_t value) {
  std::memset(bytes.data(), 0, bytes.size());
  std::memcpy(bytes.data(), &value, bytes.size() < 8 ? bytes.size() : 8);
}

}  // namespace pacsvisor
