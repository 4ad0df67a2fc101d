#include "firmware/boot/load_kernel.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "firmware/boot/bz_image.h"
#include "firmware/boot/elf_image.h"
#include "firmware/boot/file_kind.h"
#include "firmware/boot/handover.h"
#include "firmware/boot/initial_state.h"
#include "firmware/boot/initrd.h"
#include "firmware/boot/low_memory_map.h"
#include "firmware/boot/payload.h"
#include "firmware/boot/placement.h"

namespace pacsvisor {
namespace {

// The kernel proper at the address it was linked for, with what its bzImage's header asks for.
Result<LoadedKernel> LoadUnpacked(GuestMemory& memory, const MemoryLayout& layout,
                                  const ImageSource& source, const BzImage& image,
                                  const UnpackedKernel& unpacked) {
  const MemoryImage inner("the kernel in " + source.name(), unpacked.bytes());
  ElfImage elf = TRY(ParseElf(inner));
  // The header is at hand: Linux's own entry takes it, PVH's would lose it.
  elf.pvh_entry.reset();
  const LoadedKernel loaded = TRY(LoadElf(memory, layout, inner, elf));
  LoadedKernel kernel = KernelFromHeader(image);
  kernel.description = "bzImage, unpacked by the host";
  kernel.entry = loaded.entry;
  const uint64_t start = std::min(loaded.range.start, kernel.range.start).raw();
  const uint64_t end = std::max(loaded.range.start.raw() + loaded.range.size_bytes,
                                kernel.range.start.raw() + kernel.range.size_bytes);
  kernel.range = {GuestAddress(start), end - start};
  TRY(RequireKernelFits(layout, source.name(), kernel.range));
  return kernel;
}

Result<LoadedKernel> LoadFromBzImage(GuestMemory& memory, const MemoryLayout& layout,
                                     const ImageSource& source, KernelUnpacking unpacking) {
  const BzImage image = TRY(ParseBzImage(source));
  if (unpacking == KernelUnpacking::kByHost) {
    const std::optional<UnpackedKernel> unpacked =
        TRY(UnpackPayload(source, image, layout.memory_bytes));
    if (unpacked.has_value()) {
      return LoadUnpacked(memory, layout, source, image, *unpacked);
    }
  }
  return LoadBzImage(memory, layout, source, image);
}

Result<LoadedKernel> LoadImage(GuestMemory& memory, const MemoryLayout& layout,
                               const ImageSource& source, KernelUnpacking unpacking) {
  const std::vector<uint8_t> head = TRY(source.Head());
  switch (KindOfFile(head)) {
    case FileKind::kBzImage:
      return LoadFromBzImage(memory, layout, source, unpacking);
    case FileKind::kElf:
      return LoadElf(memory, layout, source, TRY(ParseElf(source)));
    default:
      return Error::Make(ErrorCode::kInvalidArgument,
                         "{} is {}: give a Linux bzImage (vmlinuz) or an ELF for x86-64",
                         source.name(), DescribeFile(head));
  }
}

Result<GuestRange> LoadInitrd(GuestMemory& memory, const MemoryLayout& layout,
                              const LoadedKernel& kernel, const ImageSource& initrd) {
  const uint64_t size_bytes = initrd.size_bytes();
  const GuestRange range{TRY(PlaceInitrd(layout, kernel, initrd.name(), size_bytes)), size_bytes};
  TRY(initrd.ReadIntoGuest(0, memory, range));
  TRY(CheckInitrdWhole(memory, range, initrd.name()));
  return range;
}

}  // namespace

Result<BootState> LoadKernelFrom(GuestMemory& memory, const MemoryLayout& layout,
                                 const ImageSource& kernel_source, const ImageSource* initrd,
                                 const BootSource& source, const AcpiPlacement& acpi) {
  if (initrd != nullptr) {
    TRY(CheckInitrdKind(*initrd));
  }
  const LoadedKernel kernel = TRY(LoadImage(memory, layout, kernel_source, source.unpacking));
  TRY(WriteCommandLine(memory, source.command_line, kernel.command_line_limit_bytes));
  Handover handover{.rsdp = acpi.rsdp, .initrd = {}, .e820 = BuildE820(layout, acpi)};
  if (initrd != nullptr) {
    handover.initrd = TRY(LoadInitrd(memory, layout, kernel, *initrd));
  }
  BootState state;
  if (kernel.protocol == BootProtocol::kPvh) {
    state = WriteProtectedModeState(memory);
    WritePvhStartInfo(memory, handover);
    state.rbx = kPvhStartInfo.raw();
  } else {
    state = WriteLongModeState(memory);
    WriteBootParams(memory, kernel, handover);
    state.rsi = kBootParamsPage.raw();
  }
  state.entry = kernel.entry;
  state.kernel = kernel.description;
  state.kernel_range = kernel.range;
  state.initrd_range = handover.initrd;
  return state;
}

Result<BootState> LoadKernel(GuestMemory& memory, const MemoryLayout& layout,
                             const BootSource& source, const AcpiPlacement& acpi) {
  const HostFile kernel = TRY(HostFile::Open(source.kernel, "kernel"));
  std::optional<HostFile> initrd;
  if (!source.initrd.empty()) {
    initrd.emplace(TRY(HostFile::Open(source.initrd, "initrd")));
  }
  return LoadKernelFrom(memory, layout, kernel, initrd.has_value() ? &*initrd : nullptr, source,
                        acpi);
}

}  // namespace pacsvisor
