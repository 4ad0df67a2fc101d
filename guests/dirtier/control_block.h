// What the dirtier leaves in its memory for readers outside: who has a copy of guest memory, and
// nothing else, can find the area, the runs, the clock, and check every page (pattern.h).
//
// All fields are little-endian. Writers are the guest's processors; each field has one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "guests/dirtier/pattern.h"

namespace pacsvisor::dirtier {

// The linker script puts the block at the image's start.
inline constexpr uint64_t kControlBlockAddress = 0x200000;
inline constexpr uint64_t kControlBlockMagic = 0x3152454954524944;  // "DIRTIER1"
inline constexpr uint64_t kMaxProcessors = 16;
inline constexpr uint64_t kMaxExtents = 28;
inline constexpr uint64_t kMaxRuns = 64;

// A piece of the area: `pages` pages at guest-physical `address`. Area pages are numbered through
// the extents in their order.
struct Extent {
  uint64_t address;
  uint64_t pages;
};
static_assert(sizeof(Extent) == 16);

// A processor's gaps between two looks at its clock, in TSC cycles, since `gap` was last asked.
struct GapRecord {
  uint64_t longest;
  uint64_t longest_at;  // TSC at its end
  uint64_t over_100_us;
  uint64_t over_1_ms;
  uint64_t over_10_ms;
  uint64_t backwards;  // how often the TSC went back
  uint64_t reserved[2];
};
static_assert(sizeof(GapRecord) == 64);

struct ControlBlock {
  uint64_t magic;
  uint32_t version;
  uint32_t processors;
  uint64_t tsc_hz;
  uint64_t tsc_start;   // TSC when counter_ms was 0
  uint64_t counter_ms;  // written once a millisecond by processor 0
  uint64_t extent_count;
  uint64_t run_count;  // runs begun since boot; run N's record is runs[(N - 1) % kMaxRuns]
  uint64_t reserved_0[1];
  Extent extents[kMaxExtents];
  GapRecord gaps[kMaxProcessors];
  uint8_t reserved_1[2560];
  RunRecord runs[kMaxRuns];  // in a page of their own
};
static_assert(offsetof(ControlBlock, extents) == 64);
static_assert(offsetof(ControlBlock, gaps) == 512);
static_assert(offsetof(ControlBlock, runs) == 4096);
static_assert(sizeof(ControlBlock) == 8192);

// Records that exist: those of the last kMaxRuns runs.
inline uint64_t RecordedRuns(const ControlBlock& control) {
  return control.run_count < kMaxRuns ? control.run_count : kMaxRuns;
}

// Physical address of an area page. `page` must lie in the area.
inline uint64_t AreaPageAddress(const ControlBlock& control, uint64_t page) {
  uint64_t extent = 0;
  while (page >= control.extents[extent].pages) page -= control.extents[extent++].pages;
  return control.extents[extent].address + page * kPageBytes;
}

}  // namespace pacsvisor::dirtier
