// The VM generation identifier ("Virtual Machine Generation ID", Microsoft, 2012): 16 random bytes
// in guest memory that differ after every restore, so that a guest reseeds what must not repeat.
#pragma once

#include <cstdint>

#include "vmm/base/result.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

// Threads: one at a time. Its state is in guest memory.
class VmGenerationId {
 public:
  static constexpr uint64_t kSizeBytes = 16;

  // `address` as in the ADDR object of the DSDT, 8-byte aligned.
  VmGenerationId(GuestMemory& memory, GuestAddress address) : memory_(memory), address_(address) {}

  // Writes a new value. A guest that runs must be told: AcpiRegisters::VmGenerationChanged.
  Status Renew();

 private:
  GuestMemory& memory_;
  const GuestAddress address_;
};

}  // namespace pacsvisor
