// A kernel file of any content is refused in words, or loaded inside its memory with an entry that
// lies in it.
#include <cstddef>
#include <cstdint>
#include <memory>

#include "firmware/boot/load_kernel.h"

namespace pacsvisor {
namespace {

struct Machine {
  Machine() {
    platform.apic_ids = {0};
    platform.memory = MemoryLayout::Create(24 * kMiB, 40).value();
    memory = GuestMemory::Create(platform.memory, MemoryBacking::kAnonymous).value();
    acpi = WriteAcpiTables(*memory, platform).value();
  }

  PlatformDescription platform;
  std::unique_ptr<GuestMemory> memory;
  AcpiPlacement acpi;
};

void LoadOnce(Machine& machine, const ImageSource& kernel, KernelUnpacking unpacking) {
  BootSource source;
  source.command_line = "console=ttyS0";
  source.unpacking = unpacking;
  const Result<BootState> state = LoadKernelFrom(*machine.memory, machine.platform.memory, kernel,
                                                 nullptr, source, machine.acpi);
  if (!state.ok()) {
    CHECK(!state.error().message().empty());
    return;
  }
  CHECK(machine.memory->Contains(state->kernel_range));
  CHECK(machine.memory->Contains({state->entry, 1}), "{}", state->entry);
  CHECK(state->kernel_range.start.raw() >= 0x10'0000, "{}", state->kernel_range.start);
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pacsvisor;
  static Machine machine;
  const MemoryImage kernel("kernel", {data, size});
  LoadOnce(machine, kernel, KernelUnpacking::kByGuest);
  LoadOnce(machine, kernel, KernelUnpacking::kByHost);
  return 0;
}
