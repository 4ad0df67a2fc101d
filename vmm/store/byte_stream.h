// Numbers, varints and bytes one after the other (FORMAT.md): written into a vector, read from
// bytes that anybody may have made. Threads: one at a time.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/base/byte_order.h"

namespace pacsvisor {

class ByteWriter {
 public:
  template <std::unsigned_integral T>
  void Number(T value) {
    uint8_t bytes[sizeof(T)];
    StoreLe(bytes, value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof(T));
  }
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
      bytes_.push_back(static_cast<uint8_t>(value | 0x80));
    }
    bytes_.push_back(static_cast<uint8_t>(value));
  }
  void Bytes(std::span<const uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void Text(std::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
  void Zeroes(size_t count) { bytes_.resize(bytes_.size() + count); }
  void Clear() { bytes_.clear(); }

  size_t size() const { return bytes_.size(); }
  std::vector<uint8_t>& bytes() { return bytes_; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

// Reading past the end, or a varint that is not in its shortest form, yields zeroes and makes
// ok() false for good: a reader of many fields asks once, before it uses them.
class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes) : rest_(bytes) {}

  template <std::unsigned_integral T>
  T Number() {
    const std::span<const uint8_t> bytes = Bytes(sizeof(T));
    return bytes.size() == sizeof(T) ? LoadLe<T>(bytes.data()) : T{0};
  }
  uint64_t Varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && !rest_.empty(); shift += 7) {
      const uint8_t byte = rest_.front();
      rest_ = rest_.subspan(1);
      if (shift == 63 && byte > 1) {
        break;  // more than 64 bits
      }
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) {
        if (byte == 0 && shift > 0) {
          break;  // not the shortest
        }
        return value;
      }
    }
    return Fail(), 0;
  }
  std::span<const uint8_t> Bytes(size_t count) {
    if (count > rest_.size()) {
      return Fail(), std::span<const uint8_t>();
    }
    const std::span<const uint8_t> bytes = rest_.first(count);
    rest_ = rest_.subspan(count);
    return bytes;
  }
  std::span<const uint8_t> Rest() { return Bytes(rest_.size()); }
  // Whether the next bytes are just these.
  bool Expect(std::string_view text) {
    const std::span<const uint8_t> bytes = Bytes(text.size());
    return bytes.size() == text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
  }
  bool ExpectZeroes(size_t count) {
    bool zero = count <= rest_.size();
    for (const uint8_t byte : Bytes(count)) {
      zero = zero && byte == 0;
    }
    return zero;
  }

  bool ok() const { return ok_; }
  size_t left() const { return rest_.size(); }

 private:
  void Fail() {
    ok_ = false;
    rest_ = {};
  }

  std::span<const uint8_t> rest_;
  bool ok_ = true;
};

}  // namespace pacsvisor
