// The process that runs a guest: opens what the machine needs of the host, gives up all other
// rights, then starts threads and runs the machine to its end.
#pragma once

#include <array>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "vmm/cli/command.h"
#include "vmm/control/machine_adapter.h"
#include "vmm/machine/config.h"

namespace pacsvisor {

// They ask for the machine's end (EndSignals); blocked by whoever runs a machine.
inline constexpr std::array kEndSignals = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

struct MachinePlace {
  std::string control_socket;
  std::string agent_socket;
  std::string image_records;
  int64_t pid = 0;            // by which the machine is known outside
  bool has_terminal = false;  // standard input is a terminal, and ours
  bool has_console = true;    // standard output is the guest's console
  // Called once the guest runs, and is thawed where it was frozen. Does not wait.
  std::function<void()> on_start;
  // Called where the process ends without unwinding: what shall not stay behind. Does not wait.
  std::function<void()> last;
};

// Errors and fault reports are on standard error when it returns.
// `from`: where it starts instead of at its kernel; may be null.
ExitStatus RunMachineProcess(const MachineConfig& config, const MachinePlace& place,
                             std::shared_ptr<const RestorePoint> from);

}  // namespace pacsvisor
