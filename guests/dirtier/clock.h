// Guest time is the TSC: it also sees what a paused kvm-clock hides. This finds its frequency.
#pragma once

#include <cstdint>
#include <string_view>

#include "guests/freestanding/text.h"

namespace pacsvisor::dirtier {

struct TscFrequency {
  uint64_t hz;
  std::string_view source;
};

// In this order: tsc_hz= of the command line, the hypervisor's CPUID leaf 0x40000010, kvm-clock,
// CPUID leaf 0x15, 50 ms of the PIT. Panics when there is none of these.
TscFrequency FindTscFrequency(const Arguments& command_line);

class Clock {
 public:
  explicit constexpr Clock(uint64_t hz = 1'000'000'000)
      : hz_(hz), scale_((uint64_t{1'000'000'000} << 32) / hz) {}

  uint64_t hz() const { return hz_; }
  uint64_t Nanoseconds(uint64_t cycles) const {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(cycles) * scale_ >> 32);
  }
  uint64_t Milliseconds(uint64_t cycles) const { return cycles / (hz_ / 1000); }

 private:
  uint64_t hz_;
  uint64_t scale_;  // nanoseconds a cycle, 32 fractional bits
};

}  // namespace pacsvisor::dirtier
