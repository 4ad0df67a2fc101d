// The address space of a freestanding guest: everything one to one.
#pragma once

#include <cstdint>

#include "guests/freestanding/start_info.h"

namespace pacsvisor {

// The linker script puts the image there.
inline constexpr uint64_t kImageAddress = 0x200000;

// Maps all memory and the devices below 4 GiB one to one, user accessible: 2 MiB pages, write-back
// where there is RAM, uncached elsewhere; `device_gibs` more of the latter behind all memory. The
// tables lie directly above the image; returns the address behind them. `info` must be a copy made
// before. Panics where they do not fit.
uint64_t MapAllMemory(const StartInfo& info, uint64_t device_gibs = 0);

}  // namespace pacsvisor
