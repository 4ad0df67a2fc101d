// The registers of a hardware-reduced ACPI platform (ACPI 6.4, 4.1): sleep control, reset, sleep
// status, and the event register that a generic event device (5.6.9) reads. Eight ports; offsets as
// in firmware/acpi/platform_description.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "devices/bus/bus_device.h"
#include "devices/bus/interrupt_line.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

class AcpiRegisters : public BusDevice, public Stateful {
 public:
  static constexpr uint64_t kSizeBytes = 8;
  static constexpr uint64_t kSleepControlOffset = 0;  // 8 bits, 4.8.3.7
  static constexpr uint64_t kResetOffset = 1;         // 8 bits, 4.8.3.6; kResetValue resets
  static constexpr uint64_t kSleepStatusOffset = 2;   // 8 bits, 4.8.3.8
  static constexpr uint64_t kEventOffset = 4;         // 32 bits; a read clears
  static constexpr uint8_t kResetValue = 1;
  // Bits of the event register.
  static constexpr uint32_t kPowerButton = 1u << 0;
  static constexpr uint32_t kGenerationChanged = 1u << 1;

  // Called on the vCPU's thread that asked for it; must not block. `events` is the generic event
  // device's interrupt.
  struct Actions {
    std::function<void()> power_off;  // S5
    std::function<void()> reset;
  };
  AcpiRegisters(Actions actions, InterruptLine& events)
      : actions_(std::move(actions)), event_line_(events) {}

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  // Any thread: raises an event and interrupts the guest.
  void RaiseEvent(uint32_t event);

  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  const Actions actions_;
  InterruptLine& event_line_;
  std::atomic<uint32_t> pending_events_ = 0;
};

}  // namespace pacsvisor
