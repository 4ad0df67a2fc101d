// The host's clocks, in nanoseconds.
#pragma once

#include <cstdint>

namespace pacsvisor {

uint64_t MonotonicNs();  // CLOCK_MONOTONIC
uint64_t RealtimeNs();   // CLOCK_REALTIME, since 1970-01-01 UTC

}  // namespace pacsvisor
