// The protocol on the serial port: one command a line, one answer a line (README.md).
#pragma once

#include <optional>
#include <string_view>

#include "guests/dirtier/clock.h"
#include "guests/dirtier/control_block.h"
#include "guests/dirtier/heartbeat.h"
#include "guests/dirtier/runs.h"
#include "guests/freestanding/power.h"
#include "guests/freestanding/serial.h"
#include "guests/freestanding/start_info.h"

namespace pacsvisor::dirtier {

inline constexpr uint64_t kMaxLineBytes = 256;

// What the console speaks for. References outlive it.
struct ConsoleParts {
  Serial& serial;
  Heartbeat& heartbeat;
  const Clock& clock;
  const StartInfo& start_info;
  ControlBlock& control;
  Runs& runs;
  std::optional<PowerOffMethod> power_off;
};

// Processor 0 only.
class Console {
 public:
  explicit Console(const ConsoleParts& parts) : parts_(parts) {}

  // Looks at the port once a millisecond, every four milliseconds while a run is on, and at the
  // runs; `now` is the TSC.
  void Step(uint64_t now);

  // Executes a command; `separators` stand between its words.
  void Execute(std::string_view line, std::string_view separators = " ");

 private:
  void ReadSerial();
  void ReportFinishedRuns();

  void Help();
  void Memory();
  void Status();
  void Counter();
  void Gap();
  void Dirty(const Arguments& arguments);
  void Stop();
  void Checksum(const Arguments& arguments);
  void Verify();
  void Sleep(const Arguments& arguments);
  void Fault(const Arguments& arguments);
  void PowerOffMachine();

  Line Ok(std::string_view command);
  void Refuse(std::string_view command, std::string_view why);

  ConsoleParts parts_;
  uint64_t last_look_ = 0;
  char line_[kMaxLineBytes];
  size_t line_bytes_ = 0;
  bool too_long_ = false;
};

}  // namespace pacsvisor::dirtier
