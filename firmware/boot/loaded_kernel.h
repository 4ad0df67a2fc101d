// A kernel image that lies in guest memory, and what it asks of its loader.
#pragma once

#include <asm/bootparam.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "vmm/memory/guest_address.h"

namespace pacsvisor {

enum class BootProtocol {
  kLinux64,  // Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"
  kPvh,      // Xen, docs/misc/pvh.pandoc, "Direct boot"
};

struct LoadedKernel {
  std::string description;
  BootProtocol protocol = BootProtocol::kLinux64;
  GuestAddress entry;
  GuestRange range;  // what it wants for itself until it manages memory
  // Of a bzImage; a kernel from an ELF file brings none.
  std::optional<setup_header> header;
  uint64_t command_line_limit_bytes = 2047;  // without the closing zero; Linux's COMMAND_LINE_SIZE
  uint64_t initrd_last_address = std::numeric_limits<uint32_t>::max();
  bool initrd_above_4gib = false;
};

}  // namespace pacsvisor
