// The registers of hardware-reduced ACPI (ACPI 6.4, 4.8.3.6, 4.8.3.7) and of the generic event
// device that the DSDT describes: eight I/O ports.
//
//   0  8 bits   sleep control: SLP_TYP in bits 2 to 4, SLP_EN in bit 5
//   1  8 bits   reset: kResetValue resets the machine
//   2  8 bits   sleep status: nothing ever wakes this machine
//   4  32 bits  pending events; a read clears what it reads
#pragma once

#include <cstdint>
#include <functional>

#include "devices/bus/bus_device.h"
#include "devices/bus/interrupt_line.h"
#include "devices/bus/pausable.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Threads: any.
class AcpiRegisters : public BusDevice, public Pausable, public Stateful {
 public:
  static constexpr uint64_t kSizeBytes = 8;
  static constexpr uint64_t kSleepControlOffset = 0;
  static constexpr uint64_t kResetOffset = 1;
  static constexpr uint64_t kSleepStatusOffset = 2;
  static constexpr uint64_t kEventOffset = 4;
  static constexpr uint8_t kResetValue = 1;
  static constexpr uint8_t kSleepTypeS5 = 5;
  // Events.
  static constexpr uint32_t kPowerButton = 1u << 0;
  static constexpr uint32_t kGenerationChanged = 1u << 1;

  // Called on the vCPU that wrote the register, without a lock; they do not block.
  struct Actions {
    std::function<void()> power_off;
    std::function<void()> reset;
  };

  // `line` is the event device's interrupt, borrowed.
  AcpiRegisters(Actions actions, InterruptLine& line);

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  // Makes `event` pending and interrupts; while paused, at Resume.
  void RaiseEvent(uint32_t event);
  void PressPowerButton() { RaiseEvent(kPowerButton); }
  void VmGenerationChanged() { RaiseEvent(kGenerationChanged); }

  // Pending events survive; after a restore, Resume interrupts for them again.
  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  uint8_t ReadByte(uint64_t offset) REQUIRES(mutex_);
  void WriteByte(uint64_t offset, uint8_t value) EXCLUDES(mutex_);

  // Constant after construction.
  const Actions actions_;
  InterruptLine& line_;
  // Guarded.
  mutable Mutex mutex_;
  uint32_t pending_ GUARDED_BY(mutex_) = 0;
  bool paused_ GUARDED_BY(mutex_) = false;
  bool interrupt_owed_ GUARDED_BY(mutex_) = false;  // at Resume
};

}  // namespace pacsvisor
