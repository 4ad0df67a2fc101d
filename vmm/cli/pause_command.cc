#include "vmm/cli/command.h"
#include "vmm/control/control_client.h"
#include "vmm/control/runtime_directory.h"

namespace pacsvisor {
namespace {

constexpr char kPauseFooter[] = R"(The guest stands still, with its clock, until 'pacsvisor resume'.

Example:
  pacsvisor pause pacs)";
constexpr char kResumeFooter[] = R"(Example:
  pacsvisor resume pacs)";

using Call = Status (ControlClient::*)();

Status CallMachine(const std::string& name, Call call) {
  const std::string base = TRY(RuntimeBase());
  const RunningMachine machine = TRY(FindRunningMachine(base, name));
  return (ControlClient(machine.socket_path).*call)();
}

void Add(CLI::App& app, const char* verb, const char* help, const char* footer, Call call,
         ExitStatus* status) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(verb, help);
  command->add_option("NAME", *name, "The machine's name, as in its VM.toml")->required();
  command->footer(footer);
  command->callback([name, call, status] {
    const Status done = CallMachine(*name, call);
    *status = done.ok() ? ExitStatus::kDone : Fail(done.error());
  });
}

}  // namespace

void AddPauseCommand(CLI::App& app, ExitStatus* status) {
  Add(app, "pause", "Stop a machine's virtual CPUs", kPauseFooter, &ControlClient::Pause, status);
}

void AddResumeCommand(CLI::App& app, ExitStatus* status) {
  Add(app, "resume", "Let a paused machine run again", kResumeFooter, &ControlClient::Resume,
      status);
}

}  // namespace pacsvisor
