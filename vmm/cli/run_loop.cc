#include "vmm/cli/run_loop.h"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
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
#include "vmm/control/runtime_directory.h"
#include "vmm/machine/config.h"

namespace pacsvisor {
namespace {

// They ask for the machine's end (EndSignals).
constexpr std::array kEndSignals = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

Result<UniqueFd> CatchEndSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kEndSignals) {
    sigaddset(&set, number);
  }
  CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot make a signalfd");
  }
  return fd;
}

// Where the guest's console goes: standard output, and a file when the configuration names one.
class ConsoleOutputs {
 public:
  static Result<std::unique_ptr<ConsoleOutputs>> Open(const std::string& log_path) {
    auto outputs = std::make_unique<ConsoleOutputs>();
    outputs->screen_ = TRY(ConsoleWriter::Start(STDOUT_FILENO));
    if (!log_path.empty()) {
      // Not waiting for the reader of a FIFO, during which no signal would be heard.
      UniqueFd fd(
          open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0600));
      if (!fd.valid()) {
        return Error::FromErrno(errno, "cannot open the console's log '{}'", log_path);
      }
      const int number = fd.get();
      outputs->log_ = TRY(ConsoleWriter::Start(number, std::move(fd)));
    }
    return outputs;
  }

  void Write(std::span<const uint8_t> bytes) {
    screen_->Write(bytes);
    if (log_ != nullptr) {
      log_->Write(bytes);
    }
  }
  // On the screen only: our own words are not the guest's.
  void Say(const std::string& text) {
    // Characters as bytes.
    screen_->Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }

 private:
  std::unique_ptr<ConsoleWriter> screen_;
  std::unique_ptr<ConsoleWriter> log_;
};

Result<MachineEnd> Run(const MachineConfig& config, UniqueFd signals) {
  const std::string base = TRY(RuntimeBase());
  const RuntimeDirectory directory = TRY(RuntimeDirectory::Claim(base, config.name));
  const auto forced_end = TRY(ForcedEnd::Start(ForcedEnd::kPatience, [&directory] {
    directory.Remove();
    RawTerminal::Restore();
  }));
  const std::string image_records = TRY(ImageRecordDirectory(base));
  const std::unique_ptr<ConsoleOutputs> outputs = TRY(ConsoleOutputs::Open(config.console_log));
  MachineSession session(
      DescribeConfig(config),
      MachineFactoryOf(config, {.agent_socket = directory.agent_socket_path(),
                                .image_record_directory = image_records}),
      [&outputs](std::span<const uint8_t> bytes) { outputs->Write(bytes); },
      [&forced_end] { forced_end->Arm(); });
  const auto user = TRY(UserInput::Start(
      std::move(signals), session, [&outputs](const std::string& text) { outputs->Say(text); }));
  const auto server = TRY(ControlServer::Start(directory.socket_path(), session));
  return session.Run();
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
      Print(stderr, "pacsvisor: the machine cannot go on: {}\n", end.report);
      return ExitStatus::kFailed;
  }
  CHECK(false, "reason {}", static_cast<int>(end.reason));
}

}  // namespace

ExitStatus RunMachine(const std::string& config_path) {
  const Result<MachineConfig> config = LoadConfig(config_path);
  if (!config.ok()) {
    // Its lines are already of the form that editors jump to.
    Print(stderr, "{}\npacsvisor: nothing was started\n", config.error().message());
    return ExitStatus::kFailed;
  }
  SetLogName(config->name);
  // Up to here a signal ends the process, which holds nothing yet.
  Result<UniqueFd> signals = CatchEndSignals();
  if (!signals.ok()) {
    return Fail(signals.error());
  }
  const Result<MachineEnd> end = Run(*config, *std::move(signals));
  return end.ok() ? Report(*end) : Fail(end.error());
}

}  // namespace pacsvisor
