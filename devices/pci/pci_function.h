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
#include "devices/bus/guest_fault.h"
#include "vmm/base/log.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

inline constexpr uint32_t kPciConfigSpaceBytes = 4096;
inline constexpr unsigned kPciBarCount = 6;

struct PciIdentity {
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint8_t revision = 0;
  uint32_t class_code = 0;  // base class, sub-class, programming interface: 24 bits
  uint16_t subsystem_vendor = 0;
  uint16_t subsystem = 0;
};

// A 64-bit BAR takes two of the six registers.
enum class PciBarKind { kMemory32, kMemory64, kMemory64Prefetchable };

// A function is derived from (virtio transport, host bridge). Configuration accesses come from vCPU
// threads through PciBus, one at a time for the whole bus (PciBus's lock).
class PciFunction {
 public:
  PciFunction(std::string name, const PciIdentity& identity);
  virtual ~PciFunction();
  PciFunction(const PciFunction&) = delete;
  PciFunction& operator=(const PciFunction&) = delete;

  const std::string& name() const { return name_; }
  // What the guest does wrong with this function. Any thread.
  GuestFaultCounters& faults() { return faults_; }
  const GuestFaultCounters& faults() const { return faults_; }

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
  // Called when the machine is built: `mmio` is where BARs answer; it outlives the function.
  // Addresses by the allocator.
  void AttachMmio(Bus& mmio) { mmio_ = &mmio; }
  void AssignBar(unsigned index, uint64_t address);
  const std::array<Bar, kPciBarCount>& bars() const { return bars_; }
  // A BAR that should answer, but overlapped another device when it was moved, is tried again.
  // PciBus asks all functions after each move, since guests swap addresses.
  void RetryBars();

  // The configuration space; saved and loaded by PciBus for all its functions. Load maps the BARs.
  void SaveConfig(StateNode& node) const;
  Status LoadConfig(const StateNode& node);

 protected:
  // Bytes of a capability, counted from its start (id at 0), were written; config() holds the new
  // ones.
  virtual void OnCapabilityWrite(uint8_t /*capability*/, uint32_t /*first*/, size_t /*count*/) {}
  // Bytes of a capability are about to be read.
  virtual void OnCapabilityRead(uint8_t /*capability*/, uint32_t /*first*/, size_t /*count*/) {}
  // The configuration space was loaded.
  virtual void OnConfigLoaded() {}
  // A BAR answers at a new address, or (nullopt) nowhere.
  virtual void OnBarMoved(unsigned /*index*/, std::optional<uint64_t> /*address*/) {}

  std::array<uint8_t, kPciConfigSpaceBytes>& config() { return config_; }
  const std::array<uint8_t, kPciConfigSpaceBytes>& config() const { return config_; }

 private:
  struct Capability {
    uint32_t offset;
    uint32_t size_bytes;
  };
  // Where the guest wants the BAR to answer.
  std::optional<uint64_t> WantedAddress(unsigned index) const;
  void UpdateBars();
  void Unmap(unsigned index);
  // False, and `refused` says why: it does not answer.
  bool Map(unsigned index, uint64_t address, GuestFault& refused);
  void CountReadOnlyWrite(uint32_t offset, std::span<const uint8_t> data);
  template <typename Hook>
  void ForEachCapability(uint32_t offset, size_t size_bytes, Hook hook);

  const std::string name_;
  GuestFaultCounters faults_;
  std::array<uint8_t, kPciConfigSpaceBytes> config_{};
  std::array<uint8_t, kPciConfigSpaceBytes> writable_{};
  std::array<Bar, kPciBarCount> bars_{};
  std::vector<Capability> capabilities_;
  uint32_t next_capability_;
  uint32_t last_link_;
  Bus* mmio_ = nullptr;
  RateLimitedLog log_;
};

}  // namespace pacsvisor
