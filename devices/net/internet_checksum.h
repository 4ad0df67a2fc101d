// The Internet checksum (RFC 1071): the one's complement sum of big-endian 16-bit words.
// Threads: any.
#pragma once

#include <cstdint>
#include <span>

namespace pacsvisor {

class InternetChecksum {
 public:
  // An odd number of bytes counts as if a zero followed: only the last piece may be odd.
  void Add(std::span<const uint8_t> bytes);
  void AddWord(uint16_t word);  // as a number, not as bytes

  // The checksum to be written, most significant byte first; 0 when the sum over data that already
  // holds its checksum is right.
  uint16_t Finish() const;

 private:
  uint64_t sum_ = 0;  // of words in host order; folded on Finish
};

// 16-bit fields of network headers. `bytes` holds at least 2.
constexpr uint16_t LoadBe16(const uint8_t* bytes) {
  return static_cast<uint16_t>(bytes[0] << 8 | bytes[1]);
}
constexpr void StoreBe16(uint8_t* bytes, uint16_t value) {
  bytes[0] = static_cast<uint8_t>(value >> 8);
  bytes[1] = static_cast<uint8_t>(value);
}

}  // namespace pacsvisor
