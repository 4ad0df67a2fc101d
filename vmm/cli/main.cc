#include <csignal>

#include "vmm/cli/command.h"
#include "vmm/cli/standard_streams.h"

namespace {

constexpr char kProgramFooter[] =
    R"(Exit status: 0 done, 1 failed, 2 wrong usage, 3 the guest ended in a vCPU fault (run),
4 a thread made a system call that it is not allowed (run).

Sockets and locks live in $XDG_RUNTIME_DIR/pacsvisor/NAME/, for root in /run/pacsvisor/NAME/;
PACSVISOR_RUNTIME_DIR puts another directory in place of .../pacsvisor.

Examples:
  pacsvisor doctor                what this host can do
  pacsvisor run pacs/VM.toml      boot; Ctrl-] x leaves
  pacsvisor ps                    what runs
  pacsvisor snapshot pacs         make it a file, while it goes on
  pacsvisor snapshots pacs        what was made so far
  pacsvisor stop pacs             power button, and force after 30 s)";

}  // namespace

int main(int argc, char** argv) {
  using pacsvisor::ExitStatus;
  if (!pacsvisor::OpenClosedStandardStreams()) {
    return static_cast<int>(ExitStatus::kFailed);  // nowhere to say why
  }
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is a failed write
  CLI::App app("pacsvisor runs a server as a guest and makes it a file.", "pacsvisor");
  app.set_version_flag("--version", std::string("pacsvisor ") + PACSVISOR_VERSION);
  app.require_subcommand(1);
  app.footer(kProgramFooter);
  ExitStatus status = ExitStatus::kUsage;
  AddRunCommand(app, &status);
  AddPsCommand(app, &status);
  AddStopCommand(app, &status);
  AddPauseCommand(app, &status);
  AddResumeCommand(app, &status);
  AddSnapshotCommand(app, &status);
  AddSnapshotsCommand(app, &status);
  AddRestoreCommand(app, &status);
  AddCopyCommand(app, &status);
  AddDiffCommand(app, &status);
  AddVerifyCommand(app, &status);
  AddPruneCommand(app, &status);
  AddHoldCommand(app, &status);
  AddEraseCommand(app, &status);
  AddExportCommand(app, &status);
  AddImportCommand(app, &status);
  AddStoreCommand(app, &status);
  AddDiskCommand(app, &status);
  AddDoctorCommand(app, &status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked = app.exit(error) == 0;  // --help and --version come here too
    status = asked ? ExitStatus::kDone : ExitStatus::kUsage;
  }
  if (const int reason = pacsvisor::FinishStandardOutput(); reason != 0) {
    status = Fail(pacsvisor::Error::FromErrno(reason, "cannot write to standard output"));
  }
  return static_cast<int>(status);
}
