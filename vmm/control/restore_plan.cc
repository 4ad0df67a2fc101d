#include "vmm/control/restore_plan.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "vmm/machine/config_write.h"

namespace pacsvisor {
namespace {

Error Problems(const std::string& what, const std::vector<ConfigProblem>& problems) {
  std::string text;
  for (const ConfigProblem& problem : problems) {
    text += (text.empty() ? "" : "; ") + problem.text;
  }
  return Error::Make(ErrorCode::kInvalidArgument, "{}: {}", what, text);
}

Result<MachineConfig> RecordedConfig(const SnapshotInfo& snapshot) {
  const auto text = snapshot.draft.texts.find("config");
  const auto directory = snapshot.draft.texts.find("config_directory");
  if (text == snapshot.draft.texts.end() || directory == snapshot.draft.texts.end()) {
    return Error::Make(ErrorCode::kCorrupt, "snapshot {} holds no configuration",
                       snapshot.id.Short());
  }
  ParsedConfig parsed = ParseConfigText(text->second, directory->second);
  if (!parsed.problems.empty()) {
    return Problems(fmt::format("the configuration of snapshot {} cannot be read by this pacsvisor",
                                snapshot.id.Short()),
                    parsed.problems);
  }
  parsed.config.source_text = text->second;
  parsed.config.source_directory = directory->second;
  return std::move(parsed.config);
}

// Without a way out: to no host and no guest but by the forwards that were asked for.
void Isolate(MachineConfig& config, const std::vector<PortForward>& forwards) {
  bool first = true;
  for (NetConfig& net : config.nets) {
    net.backend = net.backend == NetBackend::kUser ? NetBackend::kUser : NetBackend::kNone;
    net.interface.clear();
    net.isolated = net.backend == NetBackend::kUser;
    net.forwards = first && net.isolated ? forwards : std::vector<PortForward>();
    first = first && !net.isolated;
  }
}

Status CheckForwards(const MachineConfig& config, const std::vector<PortForward>& forwards) {
  const bool user = std::any_of(config.nets.begin(), config.nets.end(), [](const NetConfig& net) {
    return net.backend == NetBackend::kUser;
  });
  return forwards.empty() || user
             ? Status()
             : Status(Error::Make(ErrorCode::kInvalidArgument,
                                  "--forward leads nowhere: the machine has no network card of the "
                                  "kind \"user\""));
}

void MoveDisks(MachineConfig& config, const std::string& directory) {
  for (size_t i = 0; i < config.disks.size(); ++i) {
    config.disks[i].path =
        (std::filesystem::path(directory) / fmt::format("disk{}.raw", i)).string();
  }
}

Result<std::vector<RestorePlan::Disk>> PlaceDisks(const SnapshotInfo& snapshot,
                                                  const MachineConfig& config) {
  std::vector<RestorePlan::Disk> disks;
  for (size_t i = 0; i < config.disks.size(); ++i) {
    const std::string name = fmt::format("disk{}", i);
    std::optional<RestorePlan::Disk> found;
    for (uint32_t space = 0; space < snapshot.spaces.size(); ++space) {
      if (snapshot.spaces[space].name == name) {
        found = {space, config.disks[i].path, snapshot.spaces[space].size_bytes};
      }
    }
    if (!found) {
      return Error::Make(ErrorCode::kCorrupt, "snapshot {} lacks {} of its configuration",
                         snapshot.id.Short(), name);
    }
    disks.push_back(*found);
  }
  return disks;
}

}  // namespace

Result<RestorePlan> PlanRestore(const SnapshotInfo& snapshot, const RestoreOptions& options) {
  if (!options.cold && (options.memory_bytes || options.cpus)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "memory and processors of a machine that goes on cannot change: add --cold, "
                       "which starts it from its disks");
  }
  RestorePlan plan{.config = TRY(RecordedConfig(snapshot)), .disks = {}};
  MachineConfig& config = plan.config;
  config.memory_bytes = options.memory_bytes.value_or(config.memory_bytes);
  config.cpus = options.cpus.value_or(config.cpus);
  if (!options.new_name.empty()) {
    // The MAC addresses stay: the guest knows them.
    config.name = options.new_name;
    config.console_log.clear();
    MoveDisks(config, options.directory);
    if (!options.live) {
      TRY(CheckForwards(config, options.forwards));
      Isolate(config, options.forwards);
      config.schedule.reset();  // a rehearsal's snapshots are taken by hand
    }
  }
  config.store_path = options.store_path;
  config.store_key = options.store_key;
  if (!options.new_name.empty() || options.memory_bytes || options.cpus) {
    config.source_text = ConfigToToml(config);
  }
  const std::vector<ConfigProblem> problems = ValidateConfig(config);
  if (!problems.empty()) {
    return Problems("the restored machine's configuration", problems);
  }
  plan.disks = TRY(PlaceDisks(snapshot, config));
  return plan;
}

}  // namespace pacsvisor
