// Message-signalled interrupts as a PCI function uses them. The machine implements these vectors
// with KVM MSI routes and irqfds; tests with counters.
#pragma once

#include <cstdint>
#include <memory>

#include "vmm/base/result.h"

namespace pacsvisor {

// PCI Local Bus 3.0, 6.8.2: where a vector writes what.
struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;

  friend bool operator==(const MsiMessage&, const MsiMessage&) = default;
};

// Whether a local APIC takes it (Intel SDM volume 3, "Message Address Register Format"). To any
// other address a message would be a write to memory or to a device, which no driver means and
// which this machine does not carry out.
constexpr bool IsLocalApicMessage(const MsiMessage& message) {
  return message.address >> 20 == 0xfee;
}

// The vectors of one function.
// Threads: SetMessage on vCPU threads under the function's lock, or before the machine runs;
// Trigger on any thread, without blocking.
class MsiVectors {
 public:
  virtual ~MsiVectors() = default;
  // `vector` < the count the object was made for.
  virtual Status SetMessage(unsigned vector, const MsiMessage& message) = 0;
  // Sends the vector's message as last set; nothing happens before the first SetMessage.
  virtual void Trigger(unsigned vector) = 0;
};

// Makes the vectors of a function when a device is built.
class MsiController {
 public:
  virtual ~MsiController() = default;
  virtual Result<std::unique_ptr<MsiVectors>> Allocate(unsigned vector_count) = 0;
};

}  // namespace pacsvisor
