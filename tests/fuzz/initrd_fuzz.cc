// Any bytes as an initrd at the very end of memory: walked without leaving them.
#include <cstddef>
#include <cstdint>
#include <memory>

#include "firmware/boot/initrd.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pacsvisor;
  constexpr uint64_t kMemoryBytes = 2 * kMiB;
  static const std::unique_ptr<GuestMemory> memory =
      GuestMemory::Create(MemoryLayout::Create(kMemoryBytes, 40).value(), MemoryBacking::kAnonymous)
          .value();
  if (size > kMemoryBytes) {
    return 0;
  }
  const GuestRange range{GuestAddress(kMemoryBytes - size), size};
  CHECK(memory->Write(range.start, {data, size}));
  const MemoryImage image("initrd", {data, size});
  const Status kind = CheckInitrdKind(image);
  const Status whole = CheckInitrdWhole(*memory, range, "initrd");
  CHECK(kind.ok() || !kind.error().message().empty());
  CHECK(whole.ok() || !whole.error().message().empty());
  return 0;
}
