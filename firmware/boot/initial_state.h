// The CPU as a boot protocol wants it at a kernel's first instruction: descriptor tables and page
// tables in guest memory, register values as plain data.
#pragma once

#include "firmware/boot/boot_state.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

// boot.rst, "64-bit Boot Protocol": CS 0x10 and DS 0x18 as in __BOOT_CS and __BOOT_DS, paging with
// the first 4 GiB identity mapped.
BootState WriteLongModeState(GuestMemory& memory);
// Xen, docs/misc/pvh.pandoc: flat 32-bit segments, no paging, a busy 32-bit TSS.
BootState WriteProtectedModeState(GuestMemory& memory);

}  // namespace pacsvisor
