// What a signal that asks for the machine's end means: the first one the power button, a later one
// force. One wish often comes as several signals (a shell and its terminal that both hang up, a
// wrapper that passes on what its process group got as well): those within a second of the first
// are that one. Threads: one.
#pragma once

#include <cstdint>
#include <optional>

namespace pacsvisor {

class EndSignals {
 public:
  static constexpr uint64_t kSameWishNs = 1'000'000'000;

  enum class Meaning { kPowerButton, kRepeated, kForce };

  Meaning Take(uint64_t now_ns) {
    if (!first_ns_) {
      first_ns_ = now_ns;
      return Meaning::kPowerButton;
    }
    return now_ns - *first_ns_ < kSameWishNs ? Meaning::kRepeated : Meaning::kForce;
  }

 private:
  std::optional<uint64_t> first_ns_;
};

}  // namespace pacsvisor
