// vmm/machine's Machine behind the seams of this folder.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "vmm/control/machine_control.h"
#include "vmm/control/machine_runner.h"
#include "vmm/machine/config.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/machine_restore.h"

namespace pacsvisor {

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

// What does not change while the machine runs: of this process, sizes of disks asked of the host.
MachineDescription DescribeConfig(const MachineConfig& config);

}  // namespace pacsvisor
