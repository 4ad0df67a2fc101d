// The order of a roll-back in place of a machine that runs: nothing is taken from it before all
// that can be found out has been, and what fails after that is undone. Threads: one.
#pragma once

#include <string>

#include "vmm/base/result.h"
#include "vmm/cli/command.h"

namespace pacsvisor {

// Each is one thing that may fail; the old machine is as it was when it did, unless said otherwise.
class RollBackSteps {
 public:
  virtual ~RollBackSteps() = default;

  // The restored disks beside the old ones, and a machine built of them up to its start, which is
  // then taken down again. The old one runs.
  virtual Status Prepare() = 0;
  virtual Status Pause() = 0;
  // The old machine, paused, as a snapshot. Not called where that is not wanted.
  virtual Status Keep() = 0;
  virtual Status Resume() = 0;
  // Ends the old machine, and returns when it is gone. An error: it may be gone or not.
  virtual Status Stop() = 0;

  struct Life {
    bool started = false;  // the guest ran, thawed
    Result<ExitStatus> status = ExitStatus::kDone;
  };
  // The restored disks take their places; the restored machine runs to its end.
  virtual Life RunRestored() = 0;
  // The old disks take their places again.
  virtual Status PutBack() = 0;
  // After Keep: the old machine goes on from where it was paused, to its end.
  virtual Life RunOld() = 0;
};

Result<ExitStatus> RollBackRunning(RollBackSteps& steps, bool keep);

}  // namespace pacsvisor
