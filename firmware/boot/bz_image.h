// Linux's bzImage (Linux, Documentation/arch/x86/boot.rst): a real-mode setup part that we do not
// run, whose header tells how to load the protected-mode part, which unpacks the kernel proper.
#pragma once

#include <asm/bootparam.h>

#include "firmware/boot/image_source.h"
#include "firmware/boot/loaded_kernel.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {

// boot.rst, "The Real-Mode Kernel Header": boot_flag and header.
inline constexpr uint16_t kSetupBootFlag = 0xaa55;
inline constexpr uint32_t kSetupMagic = 0x5372'6448;  // "HdrS"

struct BzImage {
  setup_header header;
  uint64_t code_offset_bytes;     // of the protected-mode part, in the file
  uint64_t code_size_bytes;       // its size there
  uint64_t payload_offset_bytes;  // of the compressed kernel, in the file
  uint64_t payload_size_bytes;
  GuestAddress load_address;
  uint64_t load_size_bytes;  // memory it needs from load_address on
};

// Reads and checks the header. kUnsupported for kernels without a 64-bit entry (before Linux 3.8,
// or 32-bit ones), kCorrupt for what contradicts itself or is cut short.
Result<BzImage> ParseBzImage(const ImageSource& source);

// Fails with kNoSpace when memory is too small, and says how much is needed.
Result<LoadedKernel> LoadBzImage(GuestMemory& memory, const MemoryLayout& layout,
                                 const ImageSource& source, const BzImage& image);

// What the header, once checked, asks of the loader, whichever way the kernel proper is unpacked.
LoadedKernel KernelFromHeader(const BzImage& image);

}  // namespace pacsvisor
