// One PCI function: its configuration space (PCI Local Bus 3.0, chapter 6; PCI Express
// Base 5.0, 7.2), BARs the guest may move, and its capabilities.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/bus/bus.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

inline constexpr uint32_t kPciConfigSpaceBytes = 4096;

struct PciIdentity {
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint8_t revision = 0;
  uint32_t class_code = 0;  // base class, sub-class, programming interface: 24 bits
  uint16_t subsystem_vendor = 0;
  uint16_t subsystem = 0;
};

enum class PciBarKind { kMemory32, kMemory64, kMemory64Prefetchable };

// A function is derived from (virtio transport, host bridge). Configuration accesses come from vCPU
// threads through PciBus, one at a time for the whole bus (PciBus's lock).
class PciFunction : public Stateful {
 public:
  PciFunction(std::string name, const PciIdentity& identity);

  const std::string& name() const { return name_; }

  // Building, before the machine runs. Sizes are powers of two from 16 on. `device` answers
  // accesses to the BAR, offsets counted from its start.
  void AddBar(unsigned index, PciBarKind kind, uint64_t size_bytes, BusDevice& device);
  // Appends a capability (`bytes` without the two header bytes); `writable` masks, one a byte of
  // `bytes`, bits that the guest may change. Returns its offset in configuration space.
  uint8_t AddCapability(uint8_t id, std::span<const uint8_t> bytes,
                        std::span<const uint8_t> writable);

  // By PciBus: `offset` + data inside 4096 bytes; data is 1, 2 or 4 bytes, naturally aligned.
  void ReadConfig(uint32_t offset, std::span<uint8_t> data);
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data);

  struct Bar {
    PciBarKind kind = PciBarKind::kMemory32;
    uint64_t size_bytes = 0;  // 0: not implemented
    BusDevice* device = nullptr;
    std::optional<uint64_t> mapped;  // where it answers now
  };
  // Called when the machine is built: `mmio` is where BARs answer; addresses by the allocator.
  void AttachMmio(Bus& mmio) { mmio_ = &mmio; }
  void AssignBar(unsigned index, uint64_t address);
  const std::array<Bar, 6>& bars() const { return bars_; }

  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 protected:
  // A capability's guest-visible bytes changed by a write (the new bytes are in config()).
  virtual void OnCapabilityWrite(uint8_t /*capability_offset*/) {}
  // A capability is about to be read (virtio's PCI configuration access window, 4.1.4.9).
  virtual void OnCapabilityRead(uint8_t /*capability_offset*/) {}
  // A BAR answers at a new address, or (nullopt) nowhere.
  virtual void OnBarMoved(unsigned /*index*/, std::optional<uint64_t> /*address*/) {}

  std::array<uint8_t, kPciConfigSpaceBytes>& config() { return config_; }
  const std::array<uint8_t, kPciConfigSpaceBytes>& config() const { return config_; }

 private:
  struct Capability {
    uint8_t offset;
    uint8_t size_bytes;
  };
  uint64_t BarAddress(unsigned index) const;
  void UpdateBars();

  const std::string name_;
  std::array<uint8_t, kPciConfigSpaceBytes> config_{};
  std::array<uint8_t, kPciConfigSpaceBytes> writable_{};
  std::array<Bar, 6> bars_{};
  std::vector<Capability> capabilities_;
  uint8_t next_capability_ = 0x40;
  uint8_t last_link_ = 0x34;
  Bus* mmio_ = nullptr;
};

}  // namespace pacsvisor
