// The guest's own look at what its runs have left in the area.
#pragma once

#include <cstdint>
#include <string_view>

#include "guests/dirtier/control_block.h"
#include "guests/dirtier/heartbeat.h"
#include "guests/freestanding/text.h"

namespace pacsvisor::dirtier {

struct PageSpan {
  uint64_t first = 0;
  uint64_t pages = 0;
};

// Reads first= and pages= into `span`, which holds the defaults. Returns what is wrong, or nothing.
std::string_view ParsePageSpan(const Arguments& arguments, uint64_t area_pages, PageSpan& span);

// ChecksumStep over all words of the pages, in order.
uint64_t ChecksumPages(const ControlBlock& control, const PageSpan& span, Heartbeat& heartbeat);

struct VerifyResult {
  uint64_t written = 0;  // pages that a recorded run has written
  uint64_t bad = 0;      // of these, pages that do not hold what the last write left
  uint64_t first_bad = 0;
};

// Only while nothing runs.
VerifyResult VerifyArea(const ControlBlock& control, Heartbeat& heartbeat);

}  // namespace pacsvisor::dirtier
