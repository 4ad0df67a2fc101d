// The virtual machine generation identifier (Microsoft, "Virtual Machine Generation ID", 2018): 16
// random bytes in guest memory that change whenever the machine is no longer the only continuation
// of its past, with a notification, so that a guest renews what must be unique (its random number
// generator). Threads: control thread.
#pragma once

#include <array>
#include <cstdint>

#include "vmm/base/result.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class VmGenerationId {
 public:
  static constexpr uint64_t kSizeBytes = 16;

  // `address`: where the DSDT says it lies; 8-byte aligned, inside memory (CHECKed).
  VmGenerationId(GuestMemory& memory, GuestAddress address);

  // A new identifier in its place. The guest is told by the caller.
  Status Renew();

 private:
  GuestMemory& memory_;
  const GuestAddress address_;
};

}  // namespace pacsvisor
