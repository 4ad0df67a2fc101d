// What a snapshot's manifest says of the machine that it was, as somebody else may have written it:
// a plan that holds together, or words. The first bytes choose options and spaces, the rest is the
// recorded VM.toml.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/support/fuzz_input.h"
#include "vmm/control/restore_plan.h"

using namespace pacsvisor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input({data, size});
  RestoreOptions options;
  const auto how = input.Take<uint8_t>();
  options.new_name = (how & 1) != 0 ? "another" : "";
  options.directory = "/somewhere";
  options.live = (how & 2) != 0;
  options.cold = (how & 4) != 0;
  options.memory_bytes = (how & 8) != 0 ? std::optional(64 * kMiB) : std::nullopt;
  options.cpus = (how & 16) != 0 ? std::optional(2u) : std::nullopt;
  options.store_path = "/store";
  SnapshotInfo info;
  for (unsigned spaces = input.Take<uint8_t>() % 6; spaces > 0; --spaces) {
    const auto number = input.Take<uint8_t>();
    info.spaces.push_back({.name = number < 64 ? "memory" : "disk" + std::to_string(number % 4),
                           .block_bytes = 4096,
                           .size_bytes = input.Take<uint64_t>()});
  }
  const std::span<const uint8_t> text = input.TakeBytes(size);
  info.draft.texts["config"] = std::string(text.begin(), text.end());
  info.draft.texts["config_directory"] = "/machine";
  const Result<RestorePlan> plan = PlanRestore(info, options);
  if (!plan.ok()) {
    CHECK(!plan.error().message().empty());
    return 0;
  }
  CHECK(plan->disks.size() == plan->config.disks.size());
  CHECK(ValidateConfig(plan->config).empty());
  for (size_t i = 0; i < plan->disks.size(); ++i) {
    const RestorePlan::Disk& disk = plan->disks[i];
    CHECK(disk.space < info.spaces.size() && disk.path == plan->config.disks[i].path &&
          disk.size_bytes == info.spaces[disk.space].size_bytes);
    CHECK(info.spaces[disk.space].name == "disk" + std::to_string(i));
  }
  if (!options.new_name.empty() && !options.live) {
    CHECK(std::all_of(plan->config.nets.begin(), plan->config.nets.end(), [](const NetConfig& net) {
      return net.backend == NetBackend::kNone || net.isolated;
    }));
  }
  return 0;
}
