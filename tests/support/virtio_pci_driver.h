// A virtio driver over the PCI transport: finds the structures by their capabilities, negotiates,
// sets up MSI-X and queues, and rings doorbells by MMIO, as virtio 1.2, 3.1.1 and 4.1.5 say.
// Threads: the test's.
#pragma once

#include <chrono>
#include <cstdint>

#include "devices/virtio/virtio_pci_registers.h"
#include "tests/support/pci_machine.h"
#include "tests/support/virtio_driver.h"

namespace pacsvisor {

class VirtioPciDriver {
 public:
  VirtioPciDriver(PciMachine& machine, uint8_t device);

  // Registers of the structures, wherever the BAR is now.
  template <typename T>
  T ReadCommon(uint64_t offset) {
    return machine_.Read<T>(Address(common_) + offset);
  }
  template <typename T>
  void WriteCommon(uint64_t offset, T value) {
    machine_.Write<T>(Address(common_) + offset, value);
  }
  uint64_t common_address() { return Address(common_); }
  uint64_t isr_address() { return Address(isr_); }
  uint64_t config_address() { return Address(config_); }
  uint64_t notify_address(uint16_t queue);
  uint64_t msix_table_address() { return machine_.BarAddress(device_, 2); }

  uint8_t status() { return ReadCommon<uint8_t>(offsetof(VirtioPciCommonConfig, device_status)); }
  void SetStatus(uint8_t value) {
    WriteCommon<uint8_t>(offsetof(VirtioPciCommonConfig, device_status), value);
  }
  uint64_t OfferedFeatures();
  // ACKNOWLEDGE, DRIVER, features, FEATURES_OK; false when the device refuses them.
  bool Negotiate(uint64_t features);
  void SetDriverFeatures(uint64_t features);
  void SetUpQueue(uint16_t queue, const VirtqueueLayout& layout, uint16_t vector);
  void EnableQueue(uint16_t queue);
  void DriverOk() { SetStatus(status() | kVirtioStatusDriverOk); }
  // Writes 0 and waits until it reads back.
  [[nodiscard]] bool Reset(std::chrono::milliseconds limit = kTestDeadline);

  void EnableMsix(bool enable, bool function_mask = false);
  void SetVector(unsigned vector, uint64_t address, uint32_t data, bool masked);
  void Notify(uint16_t queue) { machine_.Write<uint16_t>(notify_address(queue), queue); }

  uint8_t config_access_capability() const { return config_access_; }
  uint8_t msix_capability() const { return msix_; }

 private:
  struct Structure {
    uint8_t bar = 0;
    uint32_t offset = 0;
  };
  uint64_t Address(const Structure& structure) {
    return machine_.BarAddress(device_, structure.bar) + structure.offset;
  }

  PciMachine& machine_;
  const uint8_t device_;
  Structure common_;
  Structure notify_;
  Structure isr_;
  Structure config_;
  uint32_t notify_multiplier_ = 0;
  uint8_t config_access_ = 0;
  uint8_t msix_ = 0;
};

}  // namespace pacsvisor
