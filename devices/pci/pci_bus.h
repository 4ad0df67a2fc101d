// PCI bus 0 behind a host bridge: configuration space by ECAM (PCI Express Base 5.0, 7.2.2) and by
// the legacy ports CF8/CFC (PCI Local Bus 3.0, 3.2.2.3.2), both onto the same functions, and the
// allocation of BAR addresses at build time (the guest may move them).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "devices/bus/bus.h"
#include "devices/pci/pci_function.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {

class PciBus : public Stateful {
 public:
  // Device 0 is the host bridge (class 0x060000).
  PciBus(Bus& mmio, const MemoryRegion& window32, const MemoryRegion& window64);

  // Adds `function` as function 0 of the next free device, places its BARs. kNoSpace when the bus
  // (32 devices) or a window is full. Returns the device number. The function is borrowed.
  Result<uint8_t> Add(PciFunction& function);

  // To be inserted in the MMIO bus at kEcamStart (kEcamSizeBytes), and in the port bus at 0xcf8
  // (8).
  BusDevice& ecam() { return ecam_; }
  BusDevice& ports() { return ports_; }

  // The functions' configuration spaces and CF8's latch.
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  class Ecam : public BusDevice {
   public:
    explicit Ecam(PciBus& bus) : bus_(bus) {}
    void Read(uint64_t offset, std::span<uint8_t> data) override;
    void Write(uint64_t offset, std::span<const uint8_t> data) override;

   private:
    PciBus& bus_;
  };
  class Ports : public BusDevice {
   public:
    explicit Ports(PciBus& bus) : bus_(bus) {}
    void Read(uint64_t offset, std::span<uint8_t> data) override;
    void Write(uint64_t offset, std::span<const uint8_t> data) override;

   private:
    PciBus& bus_;
  };

  Ecam ecam_{*this};
  Ports ports_{*this};
  Bus& mmio_;
  MemoryRegion window32_;
  MemoryRegion window64_;
  std::unique_ptr<PciFunction> host_bridge_;
  mutable Mutex mutex_;
  std::array<PciFunction*, 32> devices_{};
  uint32_t config_address_ = 0;  // CF8; guarded by mutex_
};

}  // namespace pacsvisor
