// What the commands of pacsvisor share. One file a command; each adds itself to the parser and
// stores its exit status when it is the one that was given.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>  // App refers to it and to Formatter, but only declares them
#include <CLI/Formatter.hpp>
#include <string>

#include "vmm/base/result.h"

namespace pacsvisor {

enum class ExitStatus {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kGuestFault = 3,
  kViolation = 4,
};

void AddRunCommand(CLI::App& app, ExitStatus* status);
void AddPsCommand(CLI::App& app, ExitStatus* status);
void AddStopCommand(CLI::App& app, ExitStatus* status);
void AddPauseCommand(CLI::App& app, ExitStatus* status);
void AddResumeCommand(CLI::App& app, ExitStatus* status);
void AddSnapshotCommand(CLI::App& app, ExitStatus* status);
void AddSnapshotsCommand(CLI::App& app, ExitStatus* status);
void AddRestoreCommand(CLI::App& app, ExitStatus* status);
void AddDiffCommand(CLI::App& app, ExitStatus* status);
void AddVerifyCommand(CLI::App& app, ExitStatus* status);
void AddPruneCommand(CLI::App& app, ExitStatus* status);
void AddEraseCommand(CLI::App& app, ExitStatus* status);
void AddStoreCommand(CLI::App& app, ExitStatus* status);
void AddHoldCommand(CLI::App& app, ExitStatus* status);
void AddExportCommand(CLI::App& app, ExitStatus* status);
void AddImportCommand(CLI::App& app, ExitStatus* status);
void AddCopyCommand(CLI::App& app, ExitStatus* status);
void AddDiskCommand(CLI::App& app, ExitStatus* status);
void AddDoctorCommand(CLI::App& app, ExitStatus* status);

// "pacsvisor: MESSAGE" on standard error.
ExitStatus Fail(const Error& error);

// "30s", "5m", "1h", "7d", "30" (seconds); kInvalidArgument otherwise.
Result<uint32_t> ParseSeconds(const std::string& text, uint32_t max_seconds);

}  // namespace pacsvisor
