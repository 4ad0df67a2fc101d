// The pages of guest memory where the host has them, for userfaultfd, which speaks in host
// addresses. Threads: any; constant after construction.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "vmm/base/result.h"
#include "vmm/dirty/extent.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class HostPages {
 public:
  // `memory` outlives it.
  explicit HostPages(const GuestMemory& memory) : memory_(memory) {}

  uint64_t page_count() const { return memory_.page_count(); }
  // None: no address of guest memory.
  std::optional<BlockIndex> PageAt(uint64_t host_address) const;
  // As many of `pages` from the first on as lie in one region: at least one.
  std::span<uint8_t> Leading(Extent pages) const;

  // `each(Extent, std::span<uint8_t>)`, which returns a Status, for the parts of `pages` that lie
  // in one region each.
  template <typename Each>
  Status ForEach(Extent pages, Each&& each) const {
    while (pages.count > 0) {
      const std::span<uint8_t> bytes = Leading(pages);
      const uint64_t count = bytes.size() / kPageSizeBytes;
      TRY(each(Extent{pages.first, count}, bytes));
      pages = {BlockIndex(pages.first.raw() + count), pages.count - count};
    }
    return {};
  }
  template <typename Each>
  Status ForEachRegion(Each&& each) const {
    for (const GuestMemory::HostRange& range : memory_.host_ranges()) {
      TRY(each(std::span<uint8_t>(range.host, range.size_bytes)));
    }
    return {};
  }

 private:
  const GuestMemory& memory_;
};

}  // namespace pacsvisor
