// The memory that is dirtied: all RAM above the image, below and above the 4 GiB hole.
#pragma once

#include "guests/dirtier/control_block.h"
#include "guests/freestanding/start_info.h"

namespace pacsvisor::dirtier {

// Writes the extents of whole RAM pages at or above `begin` into the control block.
void FindArea(const StartInfo& info, uint64_t begin, ControlBlock& control);

uint64_t AreaPages(const ControlBlock& control);

}  // namespace pacsvisor::dirtier
