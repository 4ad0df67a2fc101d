// vmm/machine's Machine behind the seams of this folder.
#pragma once

#include <string>

#include "vmm/control/machine_control.h"
#include "vmm/control/machine_runner.h"
#include "vmm/machine/config.h"

namespace pacsvisor {

struct MachinePaths {
  std::string agent_socket;            // used where the configuration has an agent
  std::string image_record_directory;  // of all machines of this user
};

// Builds machines of `config`, one at a time.
MachineFactory MachineFactoryOf(MachineConfig config, MachinePaths paths);

// What does not change while the machine runs: of this process, sizes of disks asked of the host.
MachineDescription DescribeConfig(const MachineConfig& config);

}  // namespace pacsvisor
