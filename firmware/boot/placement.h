// Where kernels and initrds may lie in a machine's memory.
#pragma once

#include <string_view>

#include "firmware/boot/loaded_kernel.h"
#include "vmm/base/result.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {

// The kernel lies between kKernelFloor and the end of low memory. kNoSpace says how much memory
// would do; kUnsupported when none would.
Status RequireKernelFits(const MemoryLayout& layout, std::string_view name, GuestRange kernel);

// As high as the kernel allows and memory reaches, in whole pages, behind the kernel; above 4 GiB
// only when there is no room below and the kernel can take it from there.
Result<GuestAddress> PlaceInitrd(const MemoryLayout& layout, const LoadedKernel& kernel,
                                 std::string_view name, uint64_t size_bytes);

}  // namespace pacsvisor
