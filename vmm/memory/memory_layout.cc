#include "vmm/memory/memory_layout.h"

#include <algorithm>

namespace pacsvisor {

Result<MemoryLayout> MemoryLayout::Create(uint64_t memory_bytes, unsigned physical_address_bits) {
  CHECK(physical_address_bits >= 32 && physical_address_bits <= 57, "{}", physical_address_bits);
  if (memory_bytes < 2 * kMiB || !IsAligned(memory_bytes, kPageSizeBytes)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "memory of {} bytes: give at least 2 MiB, in multiples of 4 KiB",
                       memory_bytes);
  }
  const uint64_t space_bytes = uint64_t{1} << physical_address_bits;
  const uint64_t low_bytes = std::min(memory_bytes, kLowMemoryLimitBytes);
  const uint64_t high_bytes = memory_bytes - low_bytes;
  MemoryLayout layout;
  layout.memory_bytes = memory_bytes;
  layout.regions.push_back({GuestAddress(0), low_bytes});
  uint64_t end = kHighMemoryStart.raw();
  if (high_bytes > 0) {
    layout.regions.push_back({kHighMemoryStart, high_bytes});
    if (high_bytes > space_bytes || end > space_bytes - high_bytes) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "memory of {} MiB does not fit the CPU's {} address bits",
                         memory_bytes / kMiB, physical_address_bits);
    }
    end += high_bytes;
  }
  end = AlignUp(end, kGiB);
  if (kMmio64SizeBytes > space_bytes || end > space_bytes - kMmio64SizeBytes) {
    return Error::Make(
        ErrorCode::kInvalidArgument,
        "memory of {} MiB leaves no room for devices below the CPU's {} address bits",
        memory_bytes / kMiB, physical_address_bits);
  }
  layout.mmio64 = {GuestAddress(end), kMmio64SizeBytes};
  return layout;
}

}  // namespace pacsvisor
