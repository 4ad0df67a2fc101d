// Loading a kernel, so that a vCPU set to the returned state runs it: the one entry of this folder.
// Control thread, before the vCPUs run.
#pragma once

#include <string>

#include "firmware/acpi/acpi_tables.h"
#include "firmware/boot/boot_state.h"
#include "firmware/boot/image_source.h"
#include "vmm/base/result.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

// Who unpacks the kernel proper out of a bzImage.
enum class KernelUnpacking {
  kByGuest,
  kByHost,  // where it is compressed with zstd or lz4, else the guest; see payload.h on KASLR
};

struct BootSource {
  std::string kernel;  // path of a bzImage or an ELF for x86-64
  std::string initrd;  // path; empty: none
  std::string command_line;
  KernelUnpacking unpacking = KernelUnpacking::kByGuest;
};

// `memory` was made for `layout` and holds the tables that `acpi` names. Errors name the file and
// say what it is instead, how much of it is missing, or how much memory it would need.
Result<BootState> LoadKernel(GuestMemory& memory, const MemoryLayout& layout,
                             const BootSource& source, const AcpiPlacement& acpi);

// The same from opened sources; `initrd` may be null.
Result<BootState> LoadKernelFrom(GuestMemory& memory, const MemoryLayout& layout,
                                 const ImageSource& kernel, const ImageSource* initrd,
                                 const BootSource& source, const AcpiPlacement& acpi);

}  // namespace pacsvisor
