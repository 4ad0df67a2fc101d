#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/duration.h"
#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/interrupts.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/control/control_client.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/control/snapshot_json.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kSnapshotPollMs = 50;
constexpr size_t kShortIdDigits = 12;

constexpr char kSnapshotFooter[] =
    R"(Captures memory, disks and devices of one instant into the store that the machine's VM.toml names,
while the guest goes on; it stands still for the pause only. Returns when the snapshot is durable.
Ctrl-C cancels it: nothing of it is kept. A second Ctrl-C leaves without waiting for that.

A pause longer than the budget fails nothing: the summary says so.

With --quiesce the guest's agent (qemu-guest-agent; [agent] in VM.toml) freezes the file systems before
the pause and thaws them directly after it. Where it does not answer in time the snapshot is taken all
the same, as after a power cut, and a warning says why.

Examples:
  pacsvisor snapshot pacs --message "before the upgrade"
  pacsvisor snapshot pacs --pause-budget 1ms
  pacsvisor snapshot pacs --quiesce --json | jq -r .result.id)";

struct SnapshotOptions {
  std::string name;
  std::string message;
  std::string pause_budget = "5ms";
  std::string quiesce_timeout = "10s";
  bool quiesce = false;
  bool json = false;
};

Result<uint64_t> PauseBudgetUs(const std::string& text) {
  return ParseDurationUs(text, SnapshotRequest::kMinPauseBudgetUs,
                         SnapshotRequest::kMaxPauseBudgetUs);
}

Result<uint64_t> QuiesceTimeoutUs(const std::string& text) {
  return ParseDurationUs(text, 1'000, SnapshotRequest::kMaxQuiesceTimeoutMs * 1'000ul);
}

uint64_t Figure(const SnapshotResult& result, const std::string& name) {
  const auto found = result.figures.find(name);
  return found == result.figures.end() ? 0 : found->second;
}

// "pause_kick_ns" → "kick", by what took longest.
std::vector<std::pair<std::string, uint64_t>> MakeUpOfPause(const SnapshotResult& result) {
  static constexpr std::string_view kPrefix = "pause_";
  static constexpr std::string_view kSuffix = "_ns";
  std::vector<std::pair<std::string, uint64_t>> parts;
  for (const auto& [name, figure] : result.figures) {
    if (name.starts_with(kPrefix) && name.ends_with(kSuffix) &&
        name.size() > kPrefix.size() + kSuffix.size()) {
      parts.emplace_back(name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size()),
                         figure);
    }
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return parts;
}

void PrintResult(const SnapshotResult& result, const std::string& machine, uint64_t budget_us) {
  Print(stdout, "{}  {}  {}pause {}{}, durable after {}; {} dirty, {} unique, {} stored\n",
        result.id.substr(0, kShortIdDigits), machine,
        result.consistency == "crash" ? "" : result.consistency + ", ",
        FormatDuration(Figure(result, "pause_ns")),
        result.budget_met
            ? ""
            : fmt::format(" (over the budget of {})", FormatDuration(budget_us * 1'000)),
        FormatDuration(Figure(result, "durable_ns")), FormatBytes(Figure(result, "dirty_bytes")),
        FormatBytes(Figure(result, "unique_bytes")), FormatBytes(Figure(result, "stored_bytes")));
  const uint64_t pause_ns = std::max<uint64_t>(Figure(result, "pause_ns"), 1);
  for (const auto& [part, part_ns] : MakeUpOfPause(result)) {
    Print(stdout, "  {:<8} {:>9}  {:>3} %\n", part, FormatDuration(part_ns),
          part_ns * 100 / pause_ns);
  }
}

// Polls until it is over. The first wish to end cancels it, the second returns at once.
Result<SnapshotProgress> Follow(ControlClient& client, uint64_t number, Interrupts& interrupts) {
  ProgressBar bar;
  bool cancelling = false;
  while (true) {
    SnapshotProgress progress = TRY(client.SnapshotStatus(number));
    if (progress.result || progress.error) {
      return progress;
    }
    bar.Show(cancelling ? "cancelling" : SnapshotPhaseName(progress.phase), progress.bytes_done,
             progress.bytes_total);
    if (!interrupts.Take(kSnapshotPollMs)) {
      continue;
    }
    bar.Clear();
    if (std::exchange(cancelling, true)) {
      return Error::Make(ErrorCode::kCancelled,
                         "snapshot {} is being cancelled; the machine's log tells its end", number);
    }
    Print(stderr, "pacsvisor: cancelling snapshot {}\n", number);
    // One that is over by now says so when it is next asked for.
    if (const Status cancelled = client.CancelSnapshot(number);
        !cancelled.ok() && cancelled.error().code() != ErrorCode::kNotFound) {
      return cancelled.error();
    }
  }
}

// Whose machine is gone, its snapshot is too.
Error Explain(Error error, const std::string& base, const std::string& name) {
  if (FindRunningMachine(base, name).ok()) {
    return error;
  }
  return Error::Make(ErrorCode::kCancelled,
                     "machine '{}' ended while the snapshot was taken: unless pacsvisor snapshots "
                     "lists it, nothing of it is kept",
                     name);
}

Result<SnapshotProgress> Take(const SnapshotOptions& options) {
  const SnapshotRequest request{.message = options.message,
                                .pause_budget_us = TRY(PauseBudgetUs(options.pause_budget)),
                                .quiesce = options.quiesce,
                                .quiesce_timeout_ms = static_cast<uint32_t>(
                                    TRY(QuiesceTimeoutUs(options.quiesce_timeout)) / 1'000)};
  TRY(CheckSnapshotRequest(request));
  const std::string base = TRY(RuntimeBase());
  const RunningMachine machine = TRY(FindRunningMachine(base, options.name));
  Interrupts interrupts = TRY(Interrupts::Catch());
  ControlClient client(machine.socket_path);
  const uint64_t number = TRY(client.StartSnapshot(request));
  Result<SnapshotProgress> progress = Follow(client, number, interrupts);
  if (!progress.ok()) {
    return Explain(std::move(progress).error(), base, options.name);
  }
  return progress;
}

ExitStatus Snapshot(const SnapshotOptions& options) {
  const Result<SnapshotProgress> progress = Take(options);
  if (!progress.ok()) {
    return Fail(progress.error());
  }
  if (progress->error) {
    return Fail(*progress->error);
  }
  for (const std::string& warning : progress->result->warnings) {
    Print(stderr, "pacsvisor: warning: {}\n", warning);
  }
  if (options.json) {
    Print(stdout, "{}\n", SnapshotProgressToJson(*progress));
  } else {
    PrintResult(*progress->result, options.name, PauseBudgetUs(options.pause_budget).value());
  }
  return ExitStatus::kDone;
}

template <typename T>
std::string ProblemOf(const Result<T>& parsed) {
  return parsed.ok() ? std::string() : parsed.error().message();
}

}  // namespace

void AddSnapshotCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<SnapshotOptions>();
  CLI::App* command =
      app.add_subcommand("snapshot", "Make a running machine a file: memory, disks, devices");
  command->add_option("NAME", options->name, "The machine's name, as in its VM.toml")->required();
  command->add_option("--message", options->message, "Kept with it: what it is for")
      ->check([](const std::string& text) {
        const Status checked = CheckSnapshotRequest({.message = text});
        return checked.ok() ? std::string() : checked.error().message();
      });
  command
      ->add_option("--pause-budget", options->pause_budget,
                   "How long the guest may stand still: 500us, 5ms, 1s; default: 5ms")
      ->check([](const std::string& text) { return ProblemOf(PauseBudgetUs(text)); });
  command->add_flag("--quiesce", options->quiesce,
                    "Let the guest agent freeze the file systems for the instant");
  command
      ->add_option("--quiesce-timeout", options->quiesce_timeout,
                   "How long the guest may take for that; default: 10s")
      ->check([](const std::string& text) { return ProblemOf(QuiesceTimeoutUs(text)); });
  command->add_flag("--json", options->json,
                    "Print a JSON object, as GET /v1/snapshots/N gives it");
  command->footer(kSnapshotFooter);
  command->callback([options, status] { *status = Snapshot(*options); });
}

}  // namespace pacsvisor
