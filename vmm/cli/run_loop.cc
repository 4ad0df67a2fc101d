#include "vmm/cli/run_loop.h"

#include <termios.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <utility>

#include "vmm/base/event_fd.h"
#include "vmm/base/log.h"
#include "vmm/cli/disk_swap.h"
#include "vmm/cli/machine_process.h"
#include "vmm/cli/raw_terminal.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/disk/image_lock.h"
#include "vmm/machine/config.h"
#include "vmm/sandbox/supervisor.h"

namespace pacsvisor {
namespace {

void BlockEndSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kEndSignals) {
    sigaddset(&set, number);
  }
  CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
}

// What the process that runs the guest cannot do itself: become somebody who may not take down what
// was made for it, be in a cgroup and remove it, be the first of a pid namespace.
bool NeedsSupervisor(const MachineConfig& config) {
  return !config.sandbox.user.empty() || config.sandbox.namespaces.any() || config.limits.any();
}

ExitStatus ReportEnd(const ChildEnd& end, const std::optional<Cgroup>& cgroup) {
  if (end.signal == 0) {
    return static_cast<ExitStatus>(end.exit_status);
  }
  if (cgroup && cgroup->OutOfMemoryKills() != 0) {
    Print(stderr,
          "pacsvisor: the kernel ended the machine, which had reached its memory limit: raise "
          "[limits] memory, or give the guest less\n");
  } else {
    Print(stderr, "pacsvisor: the machine's process was killed by signal {} ({})\n", end.signal,
          strsignal(end.signal));
  }
  return ExitStatus::kFailed;
}

Result<ExitStatus> RunSupervised(const MachineConfig& config, MachinePlace place,
                                 std::shared_ptr<const RestorePoint> from) {
  const EventFd started = TRY(EventFd::Create());
  // The snapshot is the machine's from then on, for as long as that needs it.
  const auto on_start = [&from, then = place.on_start] {
    from.reset();
    then();
  };
  place.on_start = [&started] { started.Signal(); };
  std::optional<Cgroup> cgroup;
  if (config.limits.any()) {
    cgroup.emplace(TRY(Cgroup::Create(config.name, config.limits)));
  }
  termios before = {};
  const bool has_mode = place.has_terminal && tcgetattr(STDIN_FILENO, &before) == 0;
  const ChildEnd end = TRY(Supervise(
      {.signals = {kEndSignals.begin(), kEndSignals.end()},
       .pid_namespace = config.sandbox.namespaces.pid,
       .news_fd = started.fd(),
       .on_news = on_start},
      [&] {
        const Status joined = cgroup ? cgroup->Join() : Status();
        return static_cast<int>(joined.ok() ? RunMachineProcess(config, place, std::move(from))
                                            : Fail(joined.error()));
      }));
  if (has_mode && end.signal != 0) {
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
  }
  RemoveStaleImageRecords(place.image_records);
  return ReportEnd(end, cgroup);
}

}  // namespace

Result<ExitStatus> RunPreparedMachine(const MachineConfig& config, const PrepareMachine& prepare,
                                      const RunOptions& options) {
  SetLogName(config.name);
  const std::string base = TRY(RuntimeBase());
  const RuntimeDirectory directory = TRY(RuntimeDirectory::Claim(base, config.name));
  MachinePlace place{.control_socket = directory.socket_path(),
                     .agent_socket = directory.agent_socket_path(),
                     .image_records = TRY(ImageRecordDirectory(base)),
                     .pid = getpid(),
                     .has_terminal = RawTerminal::IsOurs(STDIN_FILENO),
                     .has_console = options.console,
                     .on_start = {},
                     .last = [] {}};
  place.on_start = [&options, started = StartedMachine{place.pid, place.control_socket}] {
    if (options.on_start) {
      options.on_start(started);
    }
  };
  TRY(FinishDiskSwap(config));
  std::shared_ptr<const RestorePoint> from = TRY(prepare());
  BlockEndSignals();  // up to here one ends the process, which holds nothing yet
  if (NeedsSupervisor(config) || options.in_child) {
    return RunSupervised(config, place, std::move(from));
  }
  place.last = [&directory] { directory.Remove(); };
  return RunMachineProcess(config, place, std::move(from));
}

ExitStatus RunMachine(const std::string& config_path) {
  const Result<MachineConfig> config = LoadConfig(config_path);
  if (!config.ok()) {
    // Its lines are already of the form that editors jump to.
    Print(stderr, "{}\npacsvisor: nothing was started\n", config.error().message());
    return ExitStatus::kFailed;
  }
  const Result<ExitStatus> status =
      RunPreparedMachine(*config, [] { return std::shared_ptr<const RestorePoint>(); });
  return status.ok() ? *status : Fail(status.error());
}

}  // namespace pacsvisor
