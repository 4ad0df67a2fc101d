// PCI without a machine: an MMIO bus, PCI bus 0 with its ECAM, and what a guest's kernel does with
// them (configuration accesses, looking for capabilities, placing BARs).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "devices/pci/pci_bus.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {

class PciMachine {
 public:
  static constexpr uint64_t kMmio64Start = 0x40'0000'0000;

  PciMachine();

  Bus& mmio() { return mmio_; }
  Bus& ports() { return ports_; }
  PciBus& pci() { return pci_; }

  // Guest accesses; what no device answers fails the test but for the Try kinds.
  template <typename T>
  T Read(uint64_t address) {
    uint8_t bytes[sizeof(T)];
    CHECK(mmio_.Read(address, bytes), "nothing answers at {:#x}", address);
    return LoadLe<T>(bytes);
  }
  template <typename T>
  void Write(uint64_t address, T value) {
    uint8_t bytes[sizeof(T)];
    StoreLe<T>(bytes, value);
    CHECK(mmio_.Write(address, bytes), "nothing answers at {:#x}", address);
  }
  bool Answers(uint64_t address) {
    uint8_t byte[1];
    return mmio_.Read(address, byte);
  }
  static uint64_t Ecam(uint8_t device, uint32_t offset) {
    return kEcamStart.raw() + (uint64_t{device} << 15) + offset;
  }
  template <typename T>
  T ReadConfig(uint8_t device, uint32_t offset) {
    return Read<T>(Ecam(device, offset));
  }
  template <typename T>
  void WriteConfig(uint8_t device, uint32_t offset, T value) {
    Write<T>(Ecam(device, offset), value);
  }
  template <typename T>
  T ReadPort(uint16_t port) {
    uint8_t bytes[sizeof(T)];
    ports_.Read(port, bytes);
    return LoadLe<T>(bytes);
  }
  template <typename T>
  void WritePort(uint16_t port, T value) {
    uint8_t bytes[sizeof(T)];
    StoreLe<T>(bytes, value);
    ports_.Write(port, bytes);
  }

  // Offsets of all capabilities with this id, in list order.
  std::vector<uint8_t> Capabilities(uint8_t device, uint8_t id);
  void EnableMemory(uint8_t device, bool enable = true);
  uint64_t BarAddress(uint8_t device, unsigned index);  // of 64 bits
  void MoveBar(uint8_t device, unsigned index, uint64_t address);

 private:
  Bus mmio_{"MMIO", uint64_t{1} << 52};
  Bus ports_{"I/O port", 0x10000};
  PciBus pci_;
};

}  // namespace pacsvisor
