#include "devices/platform/vm_generation_id.h"

#include <sys/random.h>

#include <cerrno>

namespace pacsvisor {

VmGenerationId::VmGenerationId(GuestMemory& memory, GuestAddress address)
    : memory_(memory), address_(address) {
  CHECK(memory.Contains({address, kSizeBytes}) && IsAligned(address.raw(), uint64_t{8}),
        "generation identifier at {}", address);
}

Status VmGenerationId::Renew() {
  std::array<uint8_t, kSizeBytes> identifier;
  if (::getrandom(identifier.data(), identifier.size(), 0) !=
      static_cast<ssize_t>(identifier.size())) {
    return Error::FromErrno(errno, "cannot read random bytes for the generation identifier");
  }
  const bool inside = memory_.Write(address_, identifier);
  CHECK(inside, "generation identifier at {}", address_);
  return {};
}

}  // namespace pacsvisor
