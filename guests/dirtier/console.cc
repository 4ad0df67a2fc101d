#include "guests/dirtier/console.h"

#include "guests/dirtier/area.h"
#include "guests/dirtier/check.h"
#include "guests/dirtier/fault.h"
#include "guests/freestanding/cpu.h"
#include "guests/freestanding/ring0.h"

namespace pacsvisor::dirtier {
namespace {

constexpr uint64_t kLooksPerSecondIdle = 1000;
constexpr uint64_t kLooksPerSecondRunning = 250;

// Hypervisors act on the request a little later.
constexpr uint64_t kSecondsUntilOff = 2;

constexpr uint64_t kLongestSleepMs = 60'000;

constexpr std::string_view kEnds[] = {"time", "writes", "stop"};

}  // namespace

void Console::Step(uint64_t now) {
  if (parts_.runs.finished()) ReportFinishedRuns();
  const uint64_t looks = parts_.runs.running() ? kLooksPerSecondRunning : kLooksPerSecondIdle;
  // Within a line there is no waiting. Unsigned: a TSC that went back makes a look due.
  if (line_bytes_ == 0 && now - last_look_ < parts_.clock.hz() / looks) return;
  last_look_ = now;
  ReadSerial();
}

void Console::ReadSerial() {
  const std::optional<char> c = parts_.serial.Get();
  if (!c) return;
  last_look_ = 0;  // more is likely to follow
  if (*c != '\n' && *c != '\r') {
    if (line_bytes_ < kMaxLineBytes) {
      line_[line_bytes_++] = *c;
    } else {
      too_long_ = true;
    }
    return;
  }
  const std::string_view line(line_, line_bytes_);
  line_bytes_ = 0;
  if (too_long_) {
    Refuse("line", "longer than 256 characters");
  } else if (!line.empty()) {
    Execute(line);
  }
  too_long_ = false;
}

void Console::Execute(std::string_view line, std::string_view separators) {
  const std::string_view command = TakeWord(line, separators);
  const Arguments arguments(line, separators);
  if (command == "dirty") return Dirty(arguments);
  if (command == "checksum") return Checksum(arguments);
  if (command == "fault") return Fault(arguments);
  if (command == "sleep") return Sleep(arguments);
  if (!TakeWord(line, separators).empty()) return Refuse(command, "unknown, or takes no words");
  if (command == "help") return Help();
  if (command == "memory") return Memory();
  if (command == "status") return Status();
  if (command == "counter") return Counter();
  if (command == "gap") return Gap();
  if (command == "stop") return Stop();
  if (command == "verify") return Verify();
  if (command == "poweroff") return PowerOffMachine();
  Refuse(command, "unknown: try help");
}

Line Console::Ok(std::string_view command) { return Line(parts_.serial, "ok", command); }

void Console::Refuse(std::string_view command, std::string_view why) {
  Line(parts_.serial, "error", command).Word(why);
}

void Console::Help() {
  Ok("help").Text("commands",
                  "memory,status,counter,gap,dirty,stop,checksum,verify,sleep,fault,poweroff");
}

void Console::Memory() {
  Line line = Ok("memory");
  uint64_t ram_bytes = 0;
  const StartInfo& info = parts_.start_info;
  for (uint64_t i = 0; i < info.range_count; ++i) {
    if (info.ranges[i].type == MemoryType::kRam) ram_bytes += info.ranges[i].size_bytes;
  }
  line.Number("ram_bytes", ram_bytes).Number("area_pages", AreaPages(parts_.control));
  line.Text("area", "");
  for (uint64_t i = 0; i < parts_.control.extent_count; ++i) {
    const Extent& extent = parts_.control.extents[i];
    line.Item(i == 0 ? "0x" : ",0x", extent.address, 16).Item("+", extent.pages, 10);
  }
  line.Hex("control", kControlBlockAddress);
  line.Text("map", "");
  for (uint64_t i = 0; i < info.range_count; ++i) {
    const MemoryRange& range = info.ranges[i];
    line.Item(i == 0 ? "0x" : ",0x", range.address, 16).Item("+0x", range.size_bytes, 16);
    line.Item(":", static_cast<uint32_t>(range.type), 10);
  }
}

void Console::Status() {
  const ControlBlock& control = parts_.control;
  Line line = Ok("status");
  line.Number("running", parts_.runs.running() ? 1 : 0).Number("runs", control.run_count);
  uint64_t writes = 0;
  for (uint64_t i = 0; i < control.processors && i < control.run_count; ++i) {
    writes += control.runs[(control.run_count - 1 - i) % kMaxRuns].writes;
  }
  line.Number("writes", writes).Number("processors", control.processors);
}

void Console::Counter() { Ok("counter").Number("ms", parts_.control.counter_ms); }

void Console::Gap() {
  GapRecord total = {};
  uint64_t processor = 0;
  for (uint64_t i = 0; i < parts_.control.processors; ++i) {
    GapRecord& record = parts_.control.gaps[i];
    const uint64_t longest = TakeShared(record.longest);
    const uint64_t longest_at = TakeShared(record.longest_at);
    if (longest > total.longest) {
      processor = i;
      total.longest = longest;
      total.longest_at = longest_at;
    }
    total.over_100_us += TakeShared(record.over_100_us);
    total.over_1_ms += TakeShared(record.over_1_ms);
    total.over_10_ms += TakeShared(record.over_10_ms);
    total.backwards += TakeShared(record.backwards);
  }
  Ok("gap")
      .Number("longest_ns", parts_.clock.Nanoseconds(total.longest))
      .Number("at_ms", parts_.clock.Milliseconds(total.longest_at - parts_.control.tsc_start))
      .Number("processor", processor)
      .Number("over_100_us", total.over_100_us)
      .Number("over_1_ms", total.over_1_ms)
      .Number("over_10_ms", total.over_10_ms)
      .Number("backwards", total.backwards);
}

void Console::Dirty(const Arguments& arguments) {
  if (parts_.runs.running()) return Refuse("dirty", "a run is on: stop it first");
  if (!parts_.runs.HasRoomForRuns()) return Refuse("dirty", "65535 runs are all a boot has");
  RunRequest request;
  const std::string_view wrong =
      ParseRunRequest(arguments, AreaPages(parts_.control), parts_.control.processors, request);
  if (!wrong.empty()) return Refuse("dirty", wrong);
  const uint64_t run = parts_.runs.Begin(request, parts_.clock);
  Ok("dirty")
      .Number("run", run)
      .Number("first", request.first_page)
      .Number("pages", request.pages)
      .Number("processors", parts_.control.processors);
}

void Console::Stop() {
  if (!parts_.runs.running()) return Refuse("stop", "nothing runs");
  parts_.runs.RequestStop();
  Ok("stop");
}

void Console::ReportFinishedRuns() {
  const RunOutcome outcome = parts_.runs.Acknowledge();
  Line(parts_.serial, "event", "done")
      .Number("run", outcome.first_run)
      .Number("writes", outcome.writes)
      .Number("ms", parts_.clock.Milliseconds(outcome.cycles))
      .Text("end", kEnds[static_cast<uint32_t>(outcome.end)]);
}

void Console::Checksum(const Arguments& arguments) {
  if (parts_.runs.running()) return Refuse("checksum", "a run is on: stop it first");
  PageSpan span{parts_.runs.last_first_page(), parts_.runs.last_pages()};
  const std::string_view wrong = ParsePageSpan(arguments, AreaPages(parts_.control), span);
  if (!wrong.empty()) return Refuse("checksum", wrong);
  const uint64_t checksum = ChecksumPages(parts_.control, span, parts_.heartbeat);
  Ok("checksum").Number("first", span.first).Number("pages", span.pages).Hex("fnv", checksum);
}

void Console::Verify() {
  if (parts_.runs.running()) return Refuse("verify", "a run is on: stop it first");
  const VerifyResult result = VerifyArea(parts_.control, parts_.heartbeat);
  Line line = Ok("verify");
  line.Number("written", result.written).Number("bad", result.bad);
  if (result.bad != 0) line.Number("first_bad", result.first_bad);
}

void Console::Sleep(const Arguments& arguments) {
  if (parts_.runs.running()) return Refuse("sleep", "a run is on: stop it first");
  const auto text = arguments.Find("ms");
  const auto ms = text ? ParseNumber(*text) : std::nullopt;
  if (!ms || *ms == 0 || *ms > kLongestSleepMs) return Refuse("sleep", "ms= must be 1 to 60000");
  Ok("sleep").Number("ms", *ms);
  SleepFor(parts_.clock.hz() / 1000 * *ms);
  Line(parts_.serial, "event", "woke").Number("ms", *ms);
}

void Console::Fault(const Arguments& arguments) {
  const auto kind = arguments.Find("kind");
  if (kind) RaiseFault(*kind);
  Refuse("fault", "kind= must be ud, de, gp, pf or triple");
}

void Console::PowerOffMachine() {
  if (!parts_.power_off) return Refuse("poweroff", "the command line has no poweroff=");
  Ok("poweroff");
  PowerOff(*parts_.power_off);
  const uint64_t begin = parts_.heartbeat.Beat();
  while (parts_.heartbeat.Beat() - begin < kSecondsUntilOff * parts_.clock.hz()) SpinPause();
  Refuse("poweroff", "the machine goes on: is poweroff= right?");
}

}  // namespace pacsvisor::dirtier
