// What the loader puts below 1 MiB, in memory that the e820 map calls usable: the kernel takes what
// it needs of it before it reuses the rest.
//
//   0x01000  GDT, and the first stack from the page's end down
//   0x02000  page tables: six pages, identity mapping of 4 GiB
//   0x08000  boot_params ("zero page")
//   0x09000  hvm_start_info, its module list and memory map
//   0x10000  command line, up to 64 KiB
//   0xe0000  ACPI tables, MP table, generation identifier (firmware/acpi)
#pragma once

#include "vmm/memory/guest_address.h"

namespace pacsvisor {

inline constexpr GuestAddress kBootGdt{0x1000};
inline constexpr GuestAddress kBootStackTop{0x2000};
inline constexpr GuestAddress kBootPageTables{0x2000};
inline constexpr GuestAddress kBootParamsPage{0x8000};
inline constexpr GuestAddress kPvhStartInfo{0x9000};
inline constexpr GuestAddress kPvhModuleList{0x9100};
inline constexpr GuestAddress kPvhMemoryMap{0x9200};
inline constexpr GuestAddress kCommandLine{0x1'0000};
inline constexpr uint64_t kCommandLineBytes = 0x1'0000;
inline constexpr GuestAddress kConventionalMemoryEnd{0xa'0000};
// Kernels are loaded here or higher.
inline constexpr GuestAddress kKernelFloor{0x10'0000};

}  // namespace pacsvisor
