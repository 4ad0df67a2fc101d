#include "devices/net/internet_checksum.h"

#include <cstring>

#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

// RFC 1071, section 2 (B): summing byte-swapped words gives the byte-swapped sum.
uint16_t Swap(uint16_t word) { return static_cast<uint16_t>(word << 8 | word >> 8); }

// One's complement addition (end-around carry).
uint64_t AddCarry(uint64_t left, uint64_t right) {
  const uint64_t sum = left + right;
  return sum + (sum < left ? 1 : 0);
}

}  // namespace

void InternetChecksum::Add(std::span<const uint8_t> bytes) {
  while (bytes.size() >= sizeof(uint64_t)) {
    sum_ = AddCarry(sum_, LoadLe<uint64_t>(bytes.data()));
    bytes = bytes.subspan(sizeof(uint64_t));
  }
  if (!bytes.empty()) {
    uint64_t rest = 0;
    std::memcpy(&rest, bytes.data(), bytes.size());
    sum_ = AddCarry(sum_, rest);
  }
}

void InternetChecksum::AddWord(uint16_t word) { sum_ = AddCarry(sum_, Swap(word)); }

uint16_t InternetChecksum::Finish() const {
  uint64_t sum = (sum_ >> 32) + (sum_ & 0xffff'ffff);
  while (sum > 0xffff) {
    sum = (sum >> 16) + (sum & 0xffff);
  }
  return static_cast<uint16_t>(~Swap(static_cast<uint16_t>(sum)));
}

}  // namespace pacsvisor
