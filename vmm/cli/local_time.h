// Instants as users read and write them.
#pragma once

#include <cstdint>
#include <string>

#include "vmm/base/result.h"

namespace pacsvisor {

// "2026-11-30 14:03:09" by this host's clock and time zone; "-" for what no calendar has.
std::string LocalTime(uint64_t instant_ns);

// The end of a span: "forever" (0), "30d" (days from `now_ns` on) or "2030-12-31" (that day's
// beginning, UTC); kInvalidArgument for all else, and for what is over by `now_ns`.
Result<uint64_t> ParseUntil(const std::string& text, uint64_t now_ns);

}  // namespace pacsvisor
