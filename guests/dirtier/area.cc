#include "guests/dirtier/area.h"

#include "guests/freestanding/traps.h"

namespace pacsvisor::dirtier {
namespace {

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

bool IsRam(const MemoryRange& range) { return range.type == MemoryType::kRam; }

}  // namespace

void FindArea(const StartInfo& info, uint64_t begin, ControlBlock& control) {
  control.extent_count = 0;
  for (uint64_t i = 0; i < info.range_count; ++i) {
    const MemoryRange& range = info.ranges[i];
    const uint64_t range_end = (range.address + range.size_bytes) / kPageBytes * kPageBytes;
    const uint64_t range_begin = AlignUp(range.address > begin ? range.address : begin, kPageBytes);
    if (!IsRam(range) || range_begin >= range_end) continue;
    if (control.extent_count == kMaxExtents) Panic("more than 28 pieces of memory");
    control.extents[control.extent_count++] = {range_begin, (range_end - range_begin) / kPageBytes};
  }
  if (control.extent_count == 0) Panic("no memory above the image");
}

uint64_t AreaPages(const ControlBlock& control) {
  uint64_t pages = 0;
  for (uint64_t i = 0; i < control.extent_count; ++i) pages += control.extents[i].pages;
  return pages;
}

}  // namespace pacsvisor::dirtier
