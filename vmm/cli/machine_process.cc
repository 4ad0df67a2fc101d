#include "vmm/cli/machine_process.h"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/cli/console_writer.h"
#include "vmm/cli/forced_end.h"
#include "vmm/cli/raw_terminal.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/user_input.h"
#include "vmm/control/control_server.h"
#include "vmm/control/machine_adapter.h"
#include "vmm/control/machine_session.h"
#include "vmm/machine/host_resources.h"
#include "vmm/sandbox/confinement.h"

namespace pacsvisor {
namespace {

constexpr uint16_t kLowPorts = 1024;

Result<UniqueFd> EndSignalDescriptor() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kEndSignals) {
    sigaddset(&set, number);
  }
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot make a signalfd");
  }
  return fd;
}

// None where no log is configured.
Result<UniqueFd> OpenConsoleLog(const std::string& path) {
  if (path.empty()) {
    return UniqueFd();
  }
  // Not waiting for the reader of a FIFO, during which no signal would be heard.
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot open the console's log '{}'", path);
  }
  return fd;
}

// Where the guest's console goes: standard output, and a file when the configuration names one.
class ConsoleOutputs {
 public:
  static Result<std::unique_ptr<ConsoleOutputs>> Start(bool on_screen, UniqueFd log) {
    auto outputs = std::make_unique<ConsoleOutputs>();
    if (on_screen) {
      outputs->screen_ = TRY(ConsoleWriter::Start(STDOUT_FILENO));
    }
    if (log.valid()) {
      const int number = log.get();
      outputs->log_ = TRY(ConsoleWriter::Start(number, std::move(log)));
    }
    return outputs;
  }

  void Write(std::span<const uint8_t> bytes) {
    if (screen_ != nullptr) {
      screen_->Write(bytes);
    }
    if (log_ != nullptr) {
      log_->Write(bytes);
    }
  }
  // On the screen only: our own words are not the guest's.
  void Say(const std::string& text) {
    if (screen_ != nullptr) {
      // Characters as bytes.
      screen_->Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    }
  }

 private:
  std::unique_ptr<ConsoleWriter> screen_;
  std::unique_ptr<ConsoleWriter> log_;
};

// All that has a name on the host.
struct OpenedHost {
  std::shared_ptr<const HostResources> resources;
  UniqueFd console_log;
  UniqueFd control;
  UniqueFd signals;
};

Result<std::optional<User>> UserOf(const SandboxConfig& sandbox) {
  if (sandbox.user.empty()) {
    return std::optional<User>();
  }
  return std::optional<User>(TRY(FindUser(sandbox.user)));
}

// A machine that goes on somewhere else may do so without its kernel, until its guest resets
// itself.
HostResources::Boot BootOf(const MachineConfig& config, bool restored) {
  return restored && access(config.boot.kernel.c_str(), R_OK) != 0 ? HostResources::Boot::kNone
                                                                   : HostResources::Boot::kKernel;
}

Result<OpenedHost> OpenHost(const MachineConfig& config, const MachinePlace& place, bool restored) {
  OpenedHost host;
  host.signals = TRY(EndSignalDescriptor());
  std::optional<User> user = TRY(UserOf(config.sandbox));
  host.resources = TRY(HostResources::Open(config, {.image_record_directory = place.image_records,
                                                    .pid = place.pid,
                                                    .agent_socket = place.agent_socket,
                                                    .boot = BootOf(config, restored),
                                                    .user = std::move(user)}));
  host.console_log = TRY(OpenConsoleLog(config.console_log));
  host.control = TRY(ControlServer::Listen(place.control_socket));
  return host;
}

bool NeedsLowPorts(const MachineConfig& config) {
  return std::any_of(config.nets.begin(), config.nets.end(), [](const NetConfig& net) {
    return std::any_of(net.forwards.begin(), net.forwards.end(),
                       [](const PortForward& forward) { return forward.host_port < kLowPorts; });
  });
}

Status ConfineFor(const MachineConfig& config) {
  const SandboxConfig& sandbox = config.sandbox;
  ConfinementOptions options{.user = {},
                             .kept = {.low_ports = NeedsLowPorts(config)},
                             .empty_root = sandbox.namespaces.mount,
                             .empty_network = sandbox.namespaces.network,
                             .filter_calls = sandbox.filter_calls,
                             .last = RawTerminal::Restore};
  options.user = TRY(UserOf(sandbox));
  return Confine(options);
}

std::string CannotGoOn(const std::string& reason) {
  return "pacsvisor: the machine cannot go on: " + reason;
}

Result<MachineEnd> Run(const MachineConfig& config, const MachinePlace& place,
                       std::shared_ptr<const RestorePoint> from) {
  MachineDescription description = DescribeConfig(config);
  description.pid = place.pid;
  OpenedHost host = TRY(OpenHost(config, place, from != nullptr));
  const std::shared_ptr<const HostResources> resources = host.resources;
  const std::optional<ScheduleOptions> schedule = ScheduleOf(config, resources->store.get());
  TRY(ConfineFor(config));
  const auto forced_end = TRY(ForcedEnd::Start(ForcedEnd::kPatience, [&place] {
    place.last();
    RawTerminal::Restore();
  }));
  const std::unique_ptr<ConsoleOutputs> outputs =
      TRY(ConsoleOutputs::Start(place.has_console, std::move(host.console_log)));
  MachineSession session(
      std::move(description),
      MachineFactoryOf(
          config, std::move(host.resources), std::move(from),
          [&forced_end](const std::string& reason) { forced_end->EndNow(CannotGoOn(reason)); }),
      [&outputs](std::span<const uint8_t> bytes) { outputs->Write(bytes); },
      [&forced_end] { forced_end->Arm(); }, place.on_start);
  if (schedule) {
    session.SetSchedule(*schedule);
  }
  const auto user =
      TRY(UserInput::Start(std::move(host.signals), place.has_terminal, session,
                           [&outputs](const std::string& text) { outputs->Say(text); }));
  const auto server = TRY(ControlServer::Start(std::move(host.control), session));
  MachineEnd end = TRY(session.Run());
  if (end.reason != MachineEnd::Reason::kHostFailure) {
    TRY(resources->MergeLayers());
  }
  return end;
}

ExitStatus Report(const MachineEnd& end) {
  switch (end.reason) {
    case MachineEnd::Reason::kPowerOff:
    case MachineEnd::Reason::kReset:
    case MachineEnd::Reason::kForced:
      return ExitStatus::kDone;
    case MachineEnd::Reason::kGuestFault:
      Print(stderr, "{}\npacsvisor: the guest ended in a vCPU fault (report above)\n", end.report);
      return ExitStatus::kGuestFault;
    case MachineEnd::Reason::kHostFailure:
      Print(stderr, "{}\n", CannotGoOn(end.report));
      return ExitStatus::kFailed;
  }
  CHECK(false, "reason {}", static_cast<int>(end.reason));
}

}  // namespace

ExitStatus RunMachineProcess(const MachineConfig& config, const MachinePlace& place,
                             std::shared_ptr<const RestorePoint> from) {
  const Result<MachineEnd> end = Run(config, place, std::move(from));
  return end.ok() ? Report(*end) : Fail(end.error());
}

}  // namespace pacsvisor
