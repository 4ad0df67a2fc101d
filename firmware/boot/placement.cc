#include "firmware/boot/placement.h"

#include <algorithm>

#include "firmware/boot/low_memory_map.h"
#include "vmm/base/align.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kMaximumInitrdBytes = uint64_t{1} << 40;

uint64_t LowEnd(const MemoryLayout& layout) {
  return layout.regions.front().start.raw() + layout.regions.front().size_bytes;
}

// The top `size_bytes` of [floor, end) in whole pages, or none.
std::optional<GuestAddress> TakeFromTop(uint64_t floor, uint64_t end, uint64_t size_bytes) {
  if (end < size_bytes) {
    return std::nullopt;
  }
  const uint64_t start = AlignDown(end - size_bytes, kPageSizeBytes);
  return start >= floor ? std::optional(GuestAddress(start)) : std::nullopt;
}

}  // namespace

Status RequireKernelFits(const MemoryLayout& layout, std::string_view name, GuestRange kernel) {
  const uint64_t start = kernel.start.raw();
  const std::optional<uint64_t> end = CheckedAdd(start, kernel.size_bytes);
  if (start < kKernelFloor.raw() || !end.has_value() || *end > kLowMemoryLimitBytes) {
    return Error::Make(ErrorCode::kUnsupported,
                       "{} wants {} KiB of memory at {:#x}; a kernel can lie from {} up to {:#x}",
                       name, DivideRoundUp(kernel.size_bytes, kKiB), start, kKernelFloor,
                       kLowMemoryLimitBytes);
  }
  if (*end > LowEnd(layout)) {
    return Error::Make(ErrorCode::kNoSpace,
                       "{} needs memory up to {} MiB and the machine has {} MiB: give it more than "
                       "that, and room for an initrd and programs",
                       name, DivideRoundUp(*end, kMiB), layout.memory_bytes / kMiB);
  }
  return {};
}

Result<GuestAddress> PlaceInitrd(const MemoryLayout& layout, const LoadedKernel& kernel,
                                 std::string_view name, uint64_t size_bytes) {
  const uint64_t floor =
      AlignUp(kernel.range.start.raw() + kernel.range.size_bytes, kPageSizeBytes);
  const uint64_t kernel_limit =
      CheckedAdd<uint64_t>(kernel.initrd_last_address, 1).value_or(LowEnd(layout));
  const auto low = TakeFromTop(floor, std::min(LowEnd(layout), kernel_limit), size_bytes);
  if (low.has_value()) {
    return *low;
  }
  if (kernel.initrd_above_4gib && layout.regions.size() > 1) {
    const MemoryRegion& high = layout.regions[1];
    const auto above =
        TakeFromTop(high.start.raw(), high.start.raw() + high.size_bytes, size_bytes);
    if (above.has_value()) {
      return *above;
    }
  }
  if (size_bytes > kMaximumInitrdBytes) {
    return Error::Make(ErrorCode::kUnsupported, "{} of {} bytes is too large", name, size_bytes);
  }
  const uint64_t needed = floor + AlignUp(size_bytes, kPageSizeBytes);
  if (needed > std::min(kernel_limit, kLowMemoryLimitBytes) && !kernel.initrd_above_4gib) {
    return Error::Make(ErrorCode::kUnsupported,
                       "{} has {} MiB; this kernel takes an initrd only below {} MiB and itself "
                       "reaches up to {} MiB: use a smaller initrd",
                       name, DivideRoundUp(size_bytes, kMiB),
                       std::min(kernel_limit, kLowMemoryLimitBytes) / kMiB,
                       DivideRoundUp(floor, kMiB));
  }
  return Error::Make(ErrorCode::kNoSpace,
                     "{} of {} MiB does not fit behind the kernel, which reaches up to {} MiB: the "
                     "machine has {} MiB of memory, give it more than {} MiB",
                     name, DivideRoundUp(size_bytes, kMiB), DivideRoundUp(floor, kMiB),
                     layout.memory_bytes / kMiB, DivideRoundUp(needed, kMiB));
}

}  // namespace pacsvisor
