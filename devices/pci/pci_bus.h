// PCI bus 0 behind a host bridge: configuration space by ECAM (PCI Express Base 5.0, 7.2.2) and by
// the legacy ports CF8/CFC (PCI Local Bus 3.0, 3.2.2.3.2), both onto the same functions, and the
// allocation of BAR addresses at build time (the guest may move them).
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "devices/bus/bus.h"
#include "devices/pci/pci_function.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/memory/memory_layout.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

inline constexpr uint64_t kPciPortsStart = 0xcf8;
inline constexpr uint64_t kPciPortsSize = 8;

// Threads: vCPU threads. Lock order: this bus's lock, then what functions lock, then the MMIO
// bus's.
class PciBus : public Stateful {
 public:
  // Device 0 is the host bridge (class 0x060000). `mmio` outlives the functions.
  PciBus(Bus& mmio, const MemoryRegion& window32, const MemoryRegion& window64);
  ~PciBus() override;

  // Adds `function` as function 0 of the next free device, places its BARs. kNoSpace when the bus
  // (32 devices) or a window is full. Returns the device number. The function is borrowed: it lives
  // at least as long as the bus is accessed.
  Result<uint8_t> Add(PciFunction& function);

  // To be inserted in the MMIO bus at kEcamStart (kEcamSizeBytes), and in the port bus at
  // kPciPortsStart (kPciPortsSize).
  BusDevice& ecam() { return ecam_; }
  BusDevice& ports() { return ports_; }
  // The reset control register, byte port 0xcf9, lies inside CF8's double word: byte accesses there
  // go to `device` (offset 0).
  void AttachResetControl(BusDevice& device) { reset_control_ = &device; }

  // What belongs to no function. Any thread.
  const GuestFaultCounters& faults() const { return faults_; }
  const GuestFaultCounters& host_bridge_faults() const {
    const MutexLock lock(mutex_);
    return host_bridge_->faults();
  }

  // The functions' configuration spaces and CF8's latch; not what else functions hold. To be loaded
  // before the transports are.
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  static constexpr uint8_t kMaxDevices = 32;

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
    // ECAM offset that a CFC access names; none when the latch is not enabled.
    std::optional<uint64_t> Target(uint64_t offset) const;
    PciBus& bus_;
  };
  // Addresses handed out from a window's start on.
  struct Window {
    uint64_t next = 0;
    uint64_t end = 0;
    std::optional<uint64_t> Take(uint64_t size_bytes);
  };

  // Null where there is none; an access to a bus that is not there is counted.
  PciFunction* FunctionAt(uint64_t ecam_offset) const REQUIRES(mutex_);
  // Any size, any alignment, as ECAM offsets; split into what PciFunction takes.
  void ReadConfig(uint64_t ecam_offset, std::span<uint8_t> data) EXCLUDES(mutex_);
  void WriteConfig(uint64_t ecam_offset, std::span<const uint8_t> data) EXCLUDES(mutex_);

  // Constant once the machine is built.
  Ecam ecam_{*this};
  Ports ports_{*this};
  Bus& mmio_;
  BusDevice* reset_control_ = nullptr;
  // Any thread.
  mutable GuestFaultCounters faults_;
  // Guarded.
  mutable Mutex mutex_;
  Window window32_ GUARDED_BY(mutex_);
  Window window64_ GUARDED_BY(mutex_);
  std::unique_ptr<PciFunction> host_bridge_ GUARDED_BY(mutex_);
  std::array<PciFunction*, kMaxDevices> devices_ GUARDED_BY(mutex_){};
  uint32_t config_address_ GUARDED_BY(mutex_) = 0;  // CF8
};

}  // namespace pacsvisor
