// The table of processors and interrupts that systems without ACPI read (Intel MultiProcessor
// Specification 1.4, chapter 4). Linux looks for its pointer even where it then uses ACPI's tables:
// it searches 64 KiB in steps of 16 bytes and maps all that is left of them anew at each step,
// which takes a second where page tables are shadowed. Here it finds it at the first. Threads: any.
#pragma once

#include <cstdint>
#include <vector>

#include "firmware/acpi/platform_description.h"

namespace pacsvisor {

inline constexpr uint64_t kMpPointerBytes = 16;
// Processors whose identifiers have eight bits; the specification knows no others.
inline constexpr size_t kMaxMpProcessors = 255;

// The floating pointer structure (section 4.1) to a table at `table`.
std::vector<uint8_t> BuildMpPointer(GuestAddress table);
// The configuration table (sections 4.2 and 4.3).
std::vector<uint8_t> BuildMpTable(const PlatformDescription& platform);

}  // namespace pacsvisor
