#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "vmm/cli/command.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/control/control_client.h"
#include "vmm/control/machine_json.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/machine/config_text.h"

namespace pacsvisor {
namespace {

constexpr int kAnswerSeconds = 3;

constexpr char kPsFooter[] =
    R"(Lists this user's machines (root's: as root). One that does not answer is shown as 'silent'. One that was
restored and has not all of its memory and disks yet says how much it has.

Examples:
  pacsvisor ps
  pacsvisor ps --json | jq -r '.[].name')";

struct Entry {
  RunningMachine machine;
  std::optional<MachineDescription> description;  // none: silent
};

std::string FormatUptime(uint64_t uptime_ms) {
  const uint64_t seconds = uptime_ms / 1000;
  return seconds < 60     ? fmt::format("{}s", seconds)
         : seconds < 3600 ? fmt::format("{}m{:02}s", seconds / 60, seconds % 60)
                          : fmt::format("{}h{:02}m", seconds / 3600, seconds / 60 % 60);
}

// Of a restored machine whose memory or disks are not all there yet: how much is.
std::string FetchNote(const MachineDescription& machine) {
  uint64_t there_bytes = machine.memory_there_bytes;
  uint64_t total_bytes = machine.memory_bytes;
  for (const DiskDescription& disk : machine.disks) {
    there_bytes += disk.there_bytes;
    total_bytes += disk.size_bytes;
  }
  return machine.first_entry_ns == 0 || there_bytes >= total_bytes
             ? ""
             : fmt::format("  fetching: {:.0f} %", 100.0 * static_cast<double>(there_bytes) /
                                                       static_cast<double>(total_bytes));
}

void PrintTable(const std::vector<Entry>& entries) {
  size_t width = 4;
  for (const Entry& entry : entries) {
    width = std::max(width, entry.machine.name.size());
  }
  Print(stdout, "{:<{}}  {:<8}  {:>4}  {:>7}  {:>8}  {:>7}\n", "NAME", width, "STATE", "CPUS",
        "MEMORY", "UPTIME", "PID");
  for (const Entry& entry : entries) {
    if (entry.description) {
      const MachineDescription& machine = *entry.description;
      Print(stdout, "{:<{}}  {:<8}  {:>4}  {:>7}  {:>8}  {:>7}{}\n", machine.name, width,
            MachineStateName(machine.state), machine.cpus, FormatSize(machine.memory_bytes),
            FormatUptime(machine.uptime_ms), machine.pid, FetchNote(machine));
    } else {
      Print(stdout, "{:<{}}  {:<8}  {:>4}  {:>7}  {:>8}  {:>7}\n", entry.machine.name, width,
            "silent", "-", "-", "-", entry.machine.pid);
    }
  }
}

void PrintJson(const std::vector<Entry>& entries) {
  nlohmann::json list = nlohmann::json::array();
  for (const Entry& entry : entries) {
    list.push_back(entry.description ? nlohmann::json::parse(DescriptionToJson(*entry.description))
                                     : nlohmann::json{{"name", entry.machine.name},
                                                      {"pid", entry.machine.pid},
                                                      {"state", "silent"}});
  }
  Print(stdout, "{}\n", list.dump(2));
}

ExitStatus Ps(bool json) {
  const Result<std::string> base = RuntimeBase();
  if (!base.ok()) {
    return Fail(base.error());
  }
  const Result<std::vector<RunningMachine>> machines = ListRunningMachines(*base);
  if (!machines.ok()) {
    return Fail(machines.error());
  }
  std::vector<Entry> entries;
  for (const RunningMachine& machine : *machines) {
    Entry entry{.machine = machine};
    if (Result<MachineDescription> description =
            ControlClient(machine.socket_path, kAnswerSeconds).Describe();
        description.ok()) {
      entry.description = *std::move(description);
    }
    entries.push_back(std::move(entry));
  }
  json ? PrintJson(entries) : PrintTable(entries);
  return ExitStatus::kDone;
}

}  // namespace

void AddPsCommand(CLI::App& app, ExitStatus* status) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("ps", "List the machines that run on this host");
  command->add_flag("--json", *json, "Print a JSON list of the machines' descriptions");
  command->footer(kPsFooter);
  command->callback([json, status] { *status = Ps(*json); });
}

}  // namespace pacsvisor
