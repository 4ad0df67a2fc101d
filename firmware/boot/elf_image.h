// Kernels as ELF files for x86-64 (System V ABI, "Object Files"): with Xen's note
// XEN_ELFNOTE_PHYS32_ENTRY they are entered by PVH, else at their entry point in long mode with
// boot_params, as Linux's vmlinux wants it.
#pragma once

#include <optional>
#include <vector>

#include "firmware/boot/image_source.h"
#include "firmware/boot/loaded_kernel.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {

struct ElfSegment {
  uint64_t offset_bytes;  // in the file
  uint64_t file_bytes;
  GuestAddress physical;
  uint64_t memory_bytes;  // at least file_bytes; the rest is zero
};

struct ElfImage {
  GuestAddress entry;
  std::optional<GuestAddress> pvh_entry;
  std::vector<ElfSegment> segments;  // never empty
};

Result<ElfImage> ParseElf(const ImageSource& source);

// Loads the segments where they ask to lie; entered by PVH if the image offers it.
Result<LoadedKernel> LoadElf(GuestMemory& memory, const MemoryLayout& layout,
                             const ImageSource& source, const ElfImage& image);

}  // namespace pacsvisor
