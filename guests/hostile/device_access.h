// Device registers by single moves of their width, as hypervisors emulate them.
#pragma once

#include <cstdint>

#include "guests/freestanding/cpu.h"

namespace pacsvisor::hostile {

// How long is waited at most, and nothing else, is counted in cycles; their number a second is a
// rough one.
inline constexpr uint64_t kCyclesPerSecond = 2'500'000'000;

inline uint8_t Read8(uint64_t address) {
  uint8_t value;
  asm volatile("movb (%1), %0" : "=q"(value) : "r"(address) : "memory");
  return value;
}
inline uint16_t Read16(uint64_t address) {
  uint16_t value;
  asm volatile("movw (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}
inline uint32_t Read32(uint64_t address) { return ReadDevice32(address); }
inline uint64_t Read64(uint64_t address) {
  uint64_t value;
  asm volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}
inline void Write8(uint64_t address, uint8_t value) { WriteDevice8(address, value); }
inline void Write16(uint64_t address, uint16_t value) { WriteDevice16(address, value); }
inline void Write32(uint64_t address, uint32_t value) { WriteDevice32(address, value); }
inline void Write64(uint64_t address, uint64_t value) {
  asm volatile("movq %0, (%1)" ::"r"(value), "r"(address) : "memory");
}

}  // namespace pacsvisor::hostile
