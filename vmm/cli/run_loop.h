// What `pacsvisor run` does round a machine: signals, the terminal, the runtime directory, the
// control socket.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "vmm/base/result.h"
#include "vmm/cli/command.h"
#include "vmm/control/machine_adapter.h"
#include "vmm/machine/config.h"

namespace pacsvisor {

// Runs the machine of a configuration to its end; errors and fault reports are on standard error by
// then. Blocks the signals that end a machine in the calling thread and all it starts.
ExitStatus RunMachine(const std::string& config_path);

// What goes on round a machine, for whoever has its configuration already. `prepare` is called with
// the machine's name claimed and no process of it there: makes what the machine then starts from
// (null: its kernel). Blocks signals as above.
using PrepareMachine = std::function<Result<std::shared_ptr<const RestorePoint>>()>;
Result<ExitStatus> RunPreparedMachine(const MachineConfig& config, const PrepareMachine& prepare);

}  // namespace pacsvisor
