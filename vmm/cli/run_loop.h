// What `pacsvisor run` does round a machine: signals, the terminal, the runtime directory, the
// control socket.
#pragma once

#include <string>

#include "vmm/base/result.h"
#include "vmm/cli/command.h"

namespace pacsvisor {

// Runs the machine of a configuration to its end; errors and fault reports are on standard error by
// then. Blocks the signals that end a machine in the calling thread and all it starts.
ExitStatus RunMachine(const std::string& config_path);

}  // namespace pacsvisor
