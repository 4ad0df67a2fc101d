#include <optional>
#include <string_view>

#include "guests/dirtier/area.h"
#include "guests/dirtier/clock.h"
#include "guests/dirtier/console.h"
#include "guests/dirtier/control_block.h"
#include "guests/dirtier/heartbeat.h"
#include "guests/dirtier/runs.h"
#include "guests/dirtier/worker.h"
#include "guests/freestanding/memory_map.h"
#include "guests/freestanding/power.h"
#include "guests/freestanding/processors.h"
#include "guests/freestanding/ring0.h"
#include "guests/freestanding/serial.h"
#include "guests/freestanding/start_info.h"
#include "guests/freestanding/traps.h"

namespace pacsvisor::dirtier {
namespace {

constexpr uint64_t kProtocolVersion = 1;
constexpr uint64_t kAreaAlignmentBytes = uint64_t{2} << 20;

[[gnu::section(".control"), gnu::used]] constinit ControlBlock control = {
    .magic = kControlBlockMagic, .version = kProtocolVersion};

constinit Serial serial;
constinit StartInfo start_info = {};
constinit Clock clock;
constinit Heartbeat heartbeats[kMaxProcessors];
constinit Worker workers[kMaxProcessors];
constinit Runs runs(control, workers);

uint64_t RequestedProcessors(const Arguments& command_line) {
  const auto text = command_line.Find("cpus");
  if (!text) return 1;
  const auto count = ParseNumber(*text);
  if (!count || *count == 0 || *count > kMaxProcessors) Panic("cpus= must be 1 to 16");
  return *count;
}

std::optional<PowerOffMethod> RequestedPowerOff(const Arguments& command_line) {
  const auto text = command_line.Find("poweroff");
  if (!text) return std::nullopt;
  const auto method = ParsePowerOff(*text);
  if (!method) Panic("poweroff= must be port:A:V[:BYTES], mmio:A:V[:BYTES] or triple-fault");
  return method;
}

void StartClock(const Arguments& command_line) {
  const TscFrequency frequency = FindTscFrequency(command_line);
  clock = Clock(frequency.hz);
  control.tsc_hz = frequency.hz;
  control.tsc_start = ReadTsc();
  for (uint64_t i = 0; i < kMaxProcessors; ++i) {
    heartbeats[i].Start(frequency.hz, control.tsc_start, &control.gaps[i],
                        i == 0 ? &control.counter_ms : nullptr);
    workers[i].Prepare(&control, frequency.hz);
  }
  serial.SetHeartbeat([] { heartbeats[0].Beat(); });
  Line(serial, "event", "clock").Text("source", frequency.source).Number("hz", frequency.hz);
}

[[noreturn]] void RunFirstProcessor() {
  serial.Start();
  InstallTraps(&serial);
  ReadStartInfo(start_info);
  const uint64_t free_memory = MapAllMemory(start_info);
  FindArea(start_info, (free_memory + kAreaAlignmentBytes - 1) & ~(kAreaAlignmentBytes - 1),
           control);

  const Arguments command_line(start_info.CommandLine());
  control.processors = static_cast<uint32_t>(RequestedProcessors(command_line));
  const auto power_off = RequestedPowerOff(command_line);
  StartClock(command_line);
  StartProcessors(control.processors, clock.hz());

  Console console({serial, heartbeats[0], clock, start_info, control, runs, power_off});
  Line(serial, "event", "ready")
      .Number("protocol", kProtocolVersion)
      .Number("area_pages", AreaPages(control))
      .Number("processors", control.processors);
  if (const auto command = command_line.Find("run")) console.Execute(*command, ",");
  for (;;) {
    const uint64_t now = heartbeats[0].Beat();
    workers[0].Step(now);
    console.Step(now);
  }
}

[[noreturn]] void RunOtherProcessor(uint64_t number) {
  if (!ArriveAsProcessor(number)) HaltProcessor();
  heartbeats[number].Arrive();
  for (;;) workers[number].Step(heartbeats[number].Beat());
}

}  // namespace

// From start.S, at CPL 3 on a stack of its own.
extern "C" [[noreturn]] void CpuMain(uint32_t number) {
  if (number == 0) RunFirstProcessor();
  RunOtherProcessor(number);
}

}  // namespace pacsvisor::dirtier
