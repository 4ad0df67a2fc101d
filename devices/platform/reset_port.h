// The two ports by which stock kernels reset a PC when ACPI's register does not do it: the keyboard
// controller's command port 0x64 (there is no controller behind it), and the reset control
// register, port 0xcf9.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "devices/bus/bus_device.h"

namespace pacsvisor {

// Threads: vCPUs. Has no state worth saving: the reset control register's bits below the reset bit
// only choose its kind.
class ResetPort : public BusDevice {
 public:
  enum class Kind {
    kKeyboardCommand,  // command 0xfe pulses the processor's reset line
    kResetControl,     // bit 2 resets
  };

  // `reset` is called on the vCPU that wrote, without a lock; it does not block.
  ResetPort(Kind kind, std::function<void()> reset);

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  uint8_t KeyboardStatus();

  const Kind kind_;
  const std::function<void()> reset_;
  std::atomic<uint8_t> control_ = 0;
  std::atomic<unsigned> status_reads_ = 0;  // since the last command
};

}  // namespace pacsvisor
