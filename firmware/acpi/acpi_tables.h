// All tables together, placed in the guest's memory where an operating system looks for them.
#pragma once

#include "firmware/acpi/platform_description.h"
#include "vmm/base/result.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

struct AcpiPlacement {
  GuestAddress rsdp;      // for boot_params or hvm_start_info
  GuestAddress vmgenid;   // kVmGenIdSizeBytes, to be written by the machine
  MemoryRegion tables;    // whole pages: e820 type "ACPI"
  MemoryRegion reserved;  // MP table, generation identifier's page: e820 type "reserved"
};

// Where WriteAcpiTables places them; the same for every platform.
AcpiPlacement AcpiPlacementOf(const PlatformDescription& platform);

// Writes RSDP, XSDT, FADT, MADT, MCFG and DSDT, the MP table (mp_table.h), and zeroes for the
// generation identifier.
// Control thread, before the vCPUs run. Fails with kNoSpace when the tables do not fit their area.
Result<AcpiPlacement> WriteAcpiTables(GuestMemory& memory, const PlatformDescription& platform);

}  // namespace pacsvisor
