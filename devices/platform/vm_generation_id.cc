#include "devices/platform/vm_generation_id.h"

#include <sys/random.h>

#include <array>
#include <cerrno>

namespace pacsvisor {

Status VmGenerationId::Renew() {
  std::array<uint8_t, kSizeBytes> value;
  // So few bytes come whole and without waiting once the host's generator is seeded.
  if (::getrandom(value.data(), value.size(), 0) != static_cast<ssize_t>(value.size())) {
    return Error::FromErrno(errno, "cannot make a VM generation identifier");
  }
  if (!memory_.Write(address_, value)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the VM generation identifier at {} is not inside memory", address_);
  }
  return {};
}

}  // namespace pacsvisor
