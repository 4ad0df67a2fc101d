// The map of physical memory that the guest is handed (ACPI 6.4, chapter 15; the name is that of
// the BIOS call). The same entries serve boot_params and PVH.
#pragma once

#include <vector>

#include "firmware/acpi/acpi_tables.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {

enum class E820Type : uint32_t { kRam = 1, kReserved = 2, kAcpi = 3 };

struct E820Entry {
  GuestAddress start;
  uint64_t size_bytes = 0;
  E820Type type = E820Type::kReserved;

  friend bool operator==(const E820Entry&, const E820Entry&) = default;
};

// Ascending, disjoint.
std::vector<E820Entry> BuildE820(const MemoryLayout& layout, const AcpiPlacement& acpi);

}  // namespace pacsvisor
