// The ways in which stock kernels ask a PC to reset when ACPI's register fails them: the keyboard
// controller's pulse command (port 0x64) and the chipset's reset control register (port 0xcf9).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "devices/bus/bus_device.h"

namespace pacsvisor {

class ResetPort : public BusDevice {
 public:
  enum class Kind {
    kKeyboardCommand,  // 0xfe pulses the reset line; reads as ones: there is no keyboard controller
    kResetControl,     // bit 2 (RST_CPU) resets; reads as zeroes
  };

  // `reset` is called on the vCPU's thread that asked for it; must not block.
  ResetPort(Kind kind, std::function<void()> reset) : kind_(kind), reset_(std::move(reset)) {}

  void Read(uint64_t, std::span<uint8_t> data) override {
    for (uint8_t& byte : data) {
      byte = kind_ == Kind::kKeyboardCommand ? 0xff : 0;
    }
  }
  void Write(uint64_t, std::span<const uint8_t> data) override {
    const bool asked =
        kind_ == Kind::kKeyboardCommand ? data[0] == kPulseReset : (data[0] & kResetCpu) != 0;
    if (asked) {
      reset_();
    }
  }

 private:
  static constexpr uint8_t kPulseReset = 0xfe;
  static constexpr uint8_t kResetCpu = 1u << 2;

  const Kind kind_;
  const std::function<void()> reset_;
};

}  // namespace pacsvisor
