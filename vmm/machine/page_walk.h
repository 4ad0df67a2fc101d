// The guest's own page tables, walked as the processor does (Intel SDM volume 3, chapter 4; AMD APM
// volume 2, chapter 5): for fault reports. Reads what a guest wrote: every entry is checked.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

struct PageWalk {
  struct Step {
    std::string_view level;  // "PML5E", "PML4E", "PDPTE", "PDE", "PTE"
    GuestAddress entry_address;
    uint64_t entry = 0;
  };
  std::vector<Step> steps;
  std::optional<GuestAddress> physical;  // none: not present, or a table outside memory
  std::string ending;                    // why the walk ended where it did
};

// 4- and 5-level paging of long mode, and no paging; the 32-bit modes end with a word saying so.
PageWalk WalkPages(const GuestMemory& memory, const kvm_sregs& registers, uint64_t linear);

}  // namespace pacsvisor
