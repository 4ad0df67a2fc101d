#include "vmm/snapshot/memory_space.h"

namespace pacsvisor {

GuestAddress MemorySpace::AddressOf(uint64_t page) const {
  for (const GuestMemory::HostRange& range : memory_.host_ranges()) {
    const uint64_t first = range.first_block.raw();
    if (page >= first && page - first < range.size_bytes / kPageSizeBytes) {
      return GuestAddress(range.start.raw() + (page - first) * kPageSizeBytes);
    }
  }
  CHECK(false, "page {} of {}", page, memory_.page_count());
}

// Page by page: a run of pages may cross from one region to the next, an access may not.
Status MemorySpace::Read(BlockIndex first, std::span<uint8_t> bytes) const {
  for (size_t offset = 0; offset < bytes.size(); offset += kPageSizeBytes) {
    const GuestAddress address = AddressOf(first.raw() + offset / kPageSizeBytes);
    const bool inside = memory_.Read(address, bytes.subspan(offset, kPageSizeBytes));
    CHECK(inside, "page at {}", address);
  }
  return {};
}

Status MemorySpace::Write(BlockIndex first, std::span<const uint8_t> bytes) {
  for (size_t offset = 0; offset < bytes.size(); offset += kPageSizeBytes) {
    const GuestAddress address = AddressOf(first.raw() + offset / kPageSizeBytes);
    const bool inside = memory_.Write(address, bytes.subspan(offset, kPageSizeBytes));
    CHECK(inside, "page at {}", address);
  }
  return {};
}

}  // namespace pacsvisor
