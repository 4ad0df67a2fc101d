// The protocol on the serial port: one command a line, one answer a line (README.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "guests/freestanding/power.h"
#include "guests/freestanding/serial.h"
#include "guests/freestanding/text.h"
#include "guests/hostile/rounds.h"

namespace pacsvisor::hostile {

// Processor 0 only.
class Console {
 public:
  static constexpr size_t kMaxLineBytes = 256;

  Console(Serial& serial, Rounds& rounds, std::optional<PowerOffMethod> power_off)
      : serial_(serial), rounds_(rounds), power_off_(power_off) {}

  // Looks at the port once.
  void Step();

 private:
  void Execute(std::string_view line);
  void List();
  void RunAttack(std::string_view words);
  void RunRounds(std::string_view words);
  void Serve(std::string_view words);
  void PowerOffMachine();
  void Refuse(std::string_view command, std::string_view why);

  Serial& serial_;
  Rounds& rounds_;
  const std::optional<PowerOffMethod> power_off_;
  uint64_t served_ = 0;
  char line_[kMaxLineBytes];
  size_t line_bytes_ = 0;
};

}  // namespace pacsvisor::hostile
