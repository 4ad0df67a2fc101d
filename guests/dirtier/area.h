// The memory that is dirtied: all RAM above the image, below and above the 4 GiB hole.
#pragma once

#include "guests/dirtier/control_block.h"
#include "guests/dirtier/start_info.h"

namespace pacsvisor::dirtier {

// Maps all memory and the devices below 4 GiB one to one, user accessible: 2 MiB pages, write-back
// where there is RAM, uncached elsewhere. The tables lie directly above the image; returns the
// address behind them. `info` must be a copy made before. Panics where they do not fit.
uint64_t MapAllMemory(const StartInfo& info);

// Writes the extents of whole RAM pages at or above `begin` into the control block.
void FindArea(const StartInfo& info, uint64_t begin, ControlBlock& control);

uint64_t AreaPages(const ControlBlock& control);

}  // namespace pacsvisor::dirtier
