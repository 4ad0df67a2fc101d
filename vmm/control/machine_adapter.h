// vmm/machine's Machine behind the seams of this folder.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "vmm/control/machine_control.h"
#include "vmm/control/machine_runner.h"
#include "vmm/control/scheduled_snapshots.h"
#include "vmm/machine/config.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/machine_restore.h"

namespace pacsvisor {

// With a snapshot that a schedule took: how often it does.
inline constexpr char kScheduledText[] = "schedule";

// Where a machine is to start instead of at its kernel.
struct RestorePoint {
  std::shared_ptr<SnapshotReader> snapshot;
  RestoredClock clock = RestoredClock::kContinue;
  // The snapshot is in the configuration's own store, and the disks hold its bytes: the next one is
  // incremental to it.
  bool continues = false;
  MemoryFill fill = MemoryFill::kLazy;
};

// Builds machines of `config` over the host's resources opened for it, one at a time; the first
// from `from`, if that is given. `on_memory_lost`: MachineOptions'.
MachineFactory MachineFactoryOf(
    MachineConfig config, std::shared_ptr<const HostResources> host,
    std::shared_ptr<const RestorePoint> from = nullptr,
    std::function<void(const std::string& reason)> on_memory_lost = nullptr);

// Of its [schedule], the age of whose newest snapshot is looked up in the store. A failure to do
// that is logged: the first one is then due soon.
std::optional<ScheduleOptions> ScheduleOf(const MachineConfig& config, Store* store);

// What does not change while the machine runs: of this process, sizes of disks asked of the host.
MachineDescription DescribeConfig(const MachineConfig& config);

}  // namespace pacsvisor
