#include "vmm/cli/roll_back.h"

#include <utility>

#include "vmm/base/log.h"

namespace pacsvisor {
namespace {

// What cannot be undone is told, beside what it was for.
Error AfterResuming(RollBackSteps& steps, Error error) {
  if (const Status resumed = steps.Resume(); !resumed.ok()) {
    Log(LogLevel::kError, "the machine stands still and cannot be resumed: {}",
        resumed.error().message());
    return error;
  }
  return std::move(error).WithContext("not rolled back, the machine goes on");
}

Result<ExitStatus> GoOnWithOld(RollBackSteps& steps, bool kept, Error why) {
  if (Status back = steps.PutBack(); !back.ok()) {
    Log(LogLevel::kError, "the old disks are not in their places again: {}",
        back.error().message());
    return why;
  }
  if (!kept) {
    return std::move(why).WithContext(
        "not rolled back; the machine is stopped, its disks are as they were (--discard: nothing "
        "else was kept)");
  }
  Log(LogLevel::kError, "not rolled back: {}; the machine goes on from where it was",
      why.message());
  const RollBackSteps::Life old = steps.RunOld();
  if (!old.started) {
    return std::move(why).WithContext("not rolled back, and the machine did not go on");
  }
  // What was asked for did not come about, however the machine that went on has ended.
  return old.status.ok() && *old.status == ExitStatus::kDone ? Result(ExitStatus::kFailed)
                                                             : old.status;
}

}  // namespace

Result<ExitStatus> RollBackRunning(RollBackSteps& steps, bool keep) {
  TRY(steps.Prepare());
  TRY(steps.Pause());
  if (keep) {
    if (Status kept = steps.Keep(); !kept.ok()) {
      return AfterResuming(steps, std::move(kept).error());
    }
  }
  if (Status stopped = steps.Stop(); !stopped.ok()) {
    return AfterResuming(steps, std::move(stopped).error());
  }
  RollBackSteps::Life restored = steps.RunRestored();
  if (restored.started) {
    return std::move(restored.status);
  }
  Error why = restored.status.ok()
                  ? Error::Make(ErrorCode::kIo, "the restored machine did not start (see above)")
                  : std::move(restored.status).error();
  return GoOnWithOld(steps, keep, std::move(why));
}

}  // namespace pacsvisor
