#include "vmm/base/log.h"
#include "vmm/cli/command.h"
#include "vmm/cli/process_setup.h"
#include "vmm/cli/run_loop.h"

namespace pacsvisor {
namespace {

constexpr char kRunFooter[] =
    R"(The serial console is on the terminal: Ctrl-] x presses the power button (again: ends by
force), Ctrl-] ? shows help. Without a terminal there is output only. SIGTERM and SIGINT press the
power button; one that comes a second or more after the first ends by force.

Exit status: 0 the guest powered off, or was ended on request; 1 failed; 2 wrong usage; 3 the guest
ended in a vCPU fault, whose report is on standard error; 4 a thread of this process made a system
call that it is not allowed, and was stopped: the line on standard error names both.

Examples:
  pacsvisor run pacs/VM.toml
  pacsvisor run --log-level debug VM.toml 2>pacsvisor.log
  pacsvisor run VM.toml </dev/null >console.log 2>&1 &)";

}  // namespace

void AddRunCommand(CLI::App& app, ExitStatus* status) {
  struct Options {
    std::string config;
    std::string log_level = "info";
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Boot the machine that a VM.toml describes");
  command->add_option("VM.toml", options->config, "The machine's configuration")->required();
  command
      ->add_option("--log-level", options->log_level,
                   "trace, debug, info, warning, error or off; default: info")
      ->check([](const std::string& name) {
        const Result<LogLevel> level = ParseLogLevel(name);
        return level.ok() ? std::string() : level.error().message();
      });
  command->footer(kRunFooter);
  command->callback([options, status] {
    SetLogLevel(*ParseLogLevel(options->log_level));
    SetUpMachineProcess();
    *status = RunMachine(options->config);
  });
}

}  // namespace pacsvisor
