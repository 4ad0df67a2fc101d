#include "firmware/boot/e820.h"

#include "firmware/boot/low_memory_map.h"

namespace pacsvisor {

std::vector<E820Entry> BuildE820(const MemoryLayout& layout, const AcpiPlacement& acpi) {
  constexpr uint64_t kKvmPagesEnd = kKvmTssStart.raw() + 3 * kPageSizeBytes;
  const uint64_t low_end = layout.regions.front().start.raw() + layout.regions.front().size_bytes;
  std::vector<E820Entry> map = {
      // Between here and the ACPI area lies memory too, but operating systems expect video memory.
      {GuestAddress(0), kConventionalMemoryEnd.raw(), E820Type::kRam},
      {acpi.tables.start, acpi.tables.size_bytes, E820Type::kAcpi},
      {acpi.reserved.start, acpi.reserved.size_bytes, E820Type::kReserved},
      {kKernelFloor, low_end - kKernelFloor.raw(), E820Type::kRam},
      {kEcamStart, kEcamSizeBytes, E820Type::kReserved},
      {kKvmIdentityMapPage, kKvmPagesEnd - kKvmIdentityMapPage.raw(), E820Type::kReserved}};
  if (layout.regions.size() > 1) {
    map.push_back({layout.regions[1].start, layout.regions[1].size_bytes, E820Type::kRam});
  }
  return map;
}

}  // namespace pacsvisor
