// The few instructions that C++ has no words for.
#pragma once

#include <cstdint>

namespace pacsvisor {

inline uint64_t ReadTsc() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return uint64_t{high} << 32 | low;
}

inline void SpinPause() { asm volatile("pause"); }

inline uint8_t ReadPort8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline void WritePort8(uint16_t port, uint8_t value) {
  asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
inline void WritePort16(uint16_t port, uint16_t value) {
  asm volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
inline void WritePort32(uint16_t port, uint32_t value) {
  asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

// Memory is mapped one to one, so a physical address is a pointer.
template <typename T>
inline T* AtAddress(uint64_t address) {
  return reinterpret_cast<T*>(address);  // the identity mapping of page_tables.h
}

// A single store of the width of T, as device registers want it: hypervisors emulate plain `mov`.
inline void WriteDevice8(uint64_t address, uint8_t value) {
  asm volatile("movb %b0, (%1)" ::"q"(value), "r"(address) : "memory");
}
inline void WriteDevice16(uint64_t address, uint16_t value) {
  asm volatile("movw %w0, (%1)" ::"r"(value), "r"(address) : "memory");
}
inline void WriteDevice32(uint64_t address, uint32_t value) {
  asm volatile("movl %0, (%1)" ::"r"(value), "r"(address) : "memory");
}
inline uint32_t ReadDevice32(uint64_t address) {
  uint32_t value;
  asm volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}

}  // namespace pacsvisor
