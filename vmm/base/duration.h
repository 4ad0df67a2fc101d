// Spans of time as users write and read them.
#pragma once

#include <cstdint>
#include <string>

#include "vmm/base/result.h"

namespace pacsvisor {

// "500us", "5ms", "1s", "2m", "12h", "7d"; kInvalidArgument for all else, and below `min_us` or
// above `max_us`.
Result<uint64_t> ParseDurationUs(const std::string& text, uint64_t min_us, uint64_t max_us);

// As it would be typed, in the largest unit that divides it: "90m", "7d".
std::string DurationText(uint64_t duration_us);

// Three digits or so: "640 ns", "12.3 us", "0.94 ms", "5.00 s", "3m20s", "2h05m".
std::string FormatDuration(uint64_t duration_ns);

}  // namespace pacsvisor
