// What a kernel finds in memory about its machine: Linux's boot_params or PVH's hvm_start_info.
#pragma once

#include <string_view>
#include <vector>

#include "firmware/boot/e820.h"
#include "firmware/boot/loaded_kernel.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

struct Handover {
  GuestAddress rsdp;
  GuestRange initrd;  // empty when there is none
  std::vector<E820Entry> e820;
};

// Writes `text` and a closing zero to kCommandLine; kInvalidArgument when the kernel takes less.
Status WriteCommandLine(GuestMemory& memory, std::string_view text, uint64_t limit_bytes);

// Linux, Documentation/arch/x86/zero-page.rst. Writes kBootParamsPage.
void WriteBootParams(GuestMemory& memory, const LoadedKernel& kernel, const Handover& handover);

// Xen, xen/include/public/arch-x86/hvm/start_info.h, version 1. Writes kPvhStartInfo and its lists.
void WritePvhStartInfo(GuestMemory& memory, const Handover& handover);

}  // namespace pacsvisor
