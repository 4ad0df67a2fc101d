#include <optional>
#include <string_view>

#include "guests/freestanding/memory_map.h"
#include "guests/freestanding/power.h"
#include "guests/freestanding/processors.h"
#include "guests/freestanding/serial.h"
#include "guests/freestanding/start_info.h"
#include "guests/freestanding/text.h"
#include "guests/freestanding/traps.h"
#include "guests/hostile/console.h"
#include "guests/hostile/rounds.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint64_t kFourGib = uint64_t{4} << 30;
constexpr uint64_t kLargePageBytes = uint64_t{2} << 20;
// The 64-bit window for BARs begins within the first GiB behind all memory.
constexpr uint64_t kDeviceGibs = 2;

constinit Serial serial;
constinit StartInfo start_info = {};
constinit Functions functions = {};
constinit Rounds rounds;

unsigned RequestedProcessors(const Arguments& command_line) {
  const auto text = command_line.Find("cpus");
  if (!text) return 1;
  const auto count = ParseNumber(*text);
  if (!count || *count == 0 || *count > kMaxProcessors) Panic("cpus= must be 1 to 16");
  return static_cast<unsigned>(*count);
}

std::optional<PowerOffMethod> RequestedPowerOff(const Arguments& command_line) {
  const auto text = command_line.Find("poweroff");
  return text ? ParsePowerOff(*text) : std::nullopt;
}

MemoryEnds FindMemoryEnds() {
  MemoryEnds ends;
  for (uint64_t i = 0; i < start_info.range_count; ++i) {
    const MemoryRange& range = start_info.ranges[i];
    const uint64_t end = range.address + range.size_bytes;
    if (range.type != MemoryType::kRam) continue;
    uint64_t& which = range.address < kFourGib ? ends.low : ends.high;
    if (end > which) which = end;
  }
  return ends;
}

void RequireDevices() {
  for (const Type type : {Type::kBlock, Type::kNet, Type::kConsole, Type::kRng}) {
    if (functions.Find(type) == nullptr) {
      Panic("a disk, a network, an agent port and an entropy device are needed");
    }
  }
}

[[noreturn]] void RunFirstProcessor() {
  serial.Start();
  InstallTraps(&serial);
  ReadStartInfo(start_info);
  const uint64_t free_memory = MapAllMemory(start_info, kDeviceGibs);
  const uint64_t arenas = (free_memory + kLargePageBytes - 1) & ~(kLargePageBytes - 1);
  const Arguments command_line(start_info.CommandLine());
  const unsigned processors = RequestedProcessors(command_line);
  const MemoryEnds memory = FindMemoryEnds();
  if (arenas + processors * Arena::kBytes > memory.low) Panic("too little memory");
  FindFunctions(functions);
  RequireDevices();
  rounds.Prepare(functions, memory, arenas, processors);
  StartProcessors(processors, kCyclesPerSecond);
  Console console(serial, rounds, RequestedPowerOff(command_line));
  Line(serial, "event", "ready")
      .Number("functions", functions.count)
      .Number("processors", processors)
      .Number("attacks", AttackCount())
      .Hex("low_end", memory.low)
      .Hex("high_end", memory.high);
  for (;;) console.Step();
}

}  // namespace

// From start.S, at CPL 3 on a stack of its own.
extern "C" [[noreturn]] void CpuMain(uint32_t number) {
  if (number == 0) RunFirstProcessor();
  rounds.Follow(number);
}

}  // namespace pacsvisor::hostile
