#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/base/clock.h"
#include "vmm/base/unique_fd.h"
#include "vmm/cli/command.h"
#include "vmm/control/control_client.h"
#include "vmm/control/runtime_directory.h"

namespace pacsvisor {
namespace {

// From the force to the end of the process.
constexpr uint32_t kEndSeconds = 20;

constexpr char kStopFooter[] =
    R"(Presses the power button, waits for the guest to power off, and ends it by force when the grace
is over. Returns when the machine is gone.

Examples:
  pacsvisor stop pacs
  pacsvisor stop pacs --grace 2m
  pacsvisor stop pacs --force)";

struct Options {
  std::string name;
  std::string grace = "30s";
  bool force = false;
  bool wait = true;
};

Status WaitForEnd(const std::string& base, const RunningMachine& machine, uint32_t seconds) {
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, machine.pid, 0)));
  const int reason = errno;
  // The number may have gone to another process by now: then the name is free, or another's.
  const Result<RunningMachine> now = FindRunningMachine(base, machine.name);
  if (!now.ok() || now->pid != machine.pid) {
    return {};
  }
  if (!process.valid()) {
    return Error::FromErrno(reason, "cannot wait for process {}", machine.pid);
  }
  const uint64_t deadline_ns = MonotonicNs() + seconds * 1'000'000'000ul;
  pollfd entry = {.fd = process.get(), .events = POLLIN, .revents = 0};
  int count = 0;
  do {
    const uint64_t now_ns = MonotonicNs();
    const uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    count = poll(&entry, 1, static_cast<int>(left_ns / 1'000'000));
  } while (count < 0 && errno == EINTR);
  if (count == 0) {
    return Error::Make(
        ErrorCode::kTimeout,
        "machine '{}' (process {}) has not ended: try --force; if that does not help, "
        "kill -9 {} loses what the guest has not written",
        machine.name, machine.pid, machine.pid);
  }
  return {};
}

Status Stop(const Options& options) {
  const std::string base = TRY(RuntimeBase());
  const RunningMachine machine = TRY(FindRunningMachine(base, options.name));
  const StopRequest request{
      .grace_seconds = TRY(ParseSeconds(options.grace, StopRequest::kMaxGraceSeconds)),
      .force = options.force};
  TRY(ControlClient(machine.socket_path).RequestStop(request));
  return options.wait
             ? WaitForEnd(base, machine, kEndSeconds + (options.force ? 0 : request.grace_seconds))
             : Status();
}

}  // namespace

void AddStopCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("stop", "Press a machine's power button; by force after a grace period");
  command->add_option("NAME", options->name, "The machine's name, as in its VM.toml")->required();
  command
      ->add_option("--grace", options->grace,
                   "How long the guest may take to power off: 30s, 5m, 1h; default: 30s")
      ->check([](const std::string& text) {
        const Result<uint32_t> seconds = ParseSeconds(text, StopRequest::kMaxGraceSeconds);
        return seconds.ok() ? std::string() : seconds.error().message();
      });
  command->add_flag("--force", options->force,
                    "End it at once: the guest loses what it has not written");
  command->add_flag("!--no-wait", options->wait, "Return when the request is in");
  command->footer(kStopFooter);
  command->callback([options, status] {
    const Status stopped = Stop(*options);
    *status = stopped.ok() ? ExitStatus::kDone : Fail(stopped.error());
  });
}

}  // namespace pacsvisor
