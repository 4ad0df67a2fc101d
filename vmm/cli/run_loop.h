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
struct StartedMachine {
  int64_t pid = 0;  // by which it is known
  std::string control_socket;
};
struct RunOptions {
  bool console = true;  // the guest's is on standard output
  // Called in the process of the caller when the guest runs (and is thawed, where it was frozen),
  // once at most. Nothing may be looked up by path there.
  std::function<void(const StartedMachine&)> on_start;
  // This process runs no guest itself, and keeps its rights for what follows.
  bool in_child = false;
};
Result<ExitStatus> RunPreparedMachine(const MachineConfig& config, const PrepareMachine& prepare,
                                      const RunOptions& options = {});

}  // namespace pacsvisor
