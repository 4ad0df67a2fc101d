// The device status byte (virtio 1.2, 2.1) of which one bit, DEVICE_NEEDS_RESET, is set by device
// threads at any time and the others by vCPU threads under the transport's lock.
#pragma once

#include <atomic>
#include <cstdint>

#include "devices/virtio/virtio_pci_registers.h"

namespace pacsvisor {

class VirtioStatus {
 public:
  uint8_t value() const { return value_.load(); }
  bool Has(uint8_t bit) const { return (value() & bit) != 0; }
  // Returns what was set before.
  uint8_t Add(uint8_t bits) { return value_.fetch_or(bits); }
  void Set(uint8_t value) { value_ = value; }

 private:
  std::atomic<uint8_t> value_ = 0;
};

}  // namespace pacsvisor
