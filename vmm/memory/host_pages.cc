#include "vmm/memory/host_pages.h"

#include <algorithm>

namespace pacsvisor {

std::optional<BlockIndex> HostPages::PageAt(uint64_t host_address) const {
  for (const GuestMemory::HostRange& range : memory_.host_ranges()) {
    const auto start = reinterpret_cast<uint64_t>(range.host);  // as a number
    if (host_address >= start && host_address - start < range.size_bytes) {
      return BlockIndex(range.first_block.raw() + (host_address - start) / kPageSizeBytes);
    }
  }
  return std::nullopt;
}

std::span<uint8_t> HostPages::Leading(Extent pages) const {
  CHECK(pages.count > 0);
  for (const GuestMemory::HostRange& range : memory_.host_ranges()) {
    const uint64_t first = range.first_block.raw();
    const uint64_t count = range.size_bytes / kPageSizeBytes;
    if (pages.first.raw() >= first && pages.first.raw() - first < count) {
      const uint64_t offset = pages.first.raw() - first;
      return {range.host + offset * kPageSizeBytes,
              std::min(pages.count, count - offset) * kPageSizeBytes};
    }
  }
  CHECK(false, "page {} of {}", pages.first, memory_.page_count());
}

}  // namespace pacsvisor
