// What the loader tells: the PVH start-of-day structure (Xen, "x86/HVM direct boot ABI").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pacsvisor {

enum class MemoryType : uint32_t { kRam = 1 };

struct MemoryRange {
  uint64_t address;
  uint64_t size_bytes;
  MemoryType type;
  uint32_t reserved;
};
static_assert(sizeof(MemoryRange) == 24);

inline constexpr uint64_t kMaxMemoryRanges = 64;
inline constexpr uint64_t kMaxCommandLineBytes = 1024;

// A copy: low memory is used for other things later.
struct StartInfo {
  MemoryRange ranges[kMaxMemoryRanges];
  uint64_t range_count;
  char command_line[kMaxCommandLineBytes];
  size_t command_line_bytes;

  std::string_view CommandLine() const { return {command_line, command_line_bytes}; }
};

// Panics when the structure is not one, or holds no memory map (version 0 of the protocol).
void ReadStartInfo(StartInfo& info);

}  // namespace pacsvisor
