// Roll-back in place of a running machine: whichever step fails, a machine runs that is as it was.
#include "vmm/cli/roll_back.h"

#include <gmock/gmock.h>

#include <vector>

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Machine and disks as the steps leave them.
class ScriptedSteps : public RollBackSteps {
 public:
  Status Prepare() override { return Do("prepare"); }
  Status Pause() override {
    TRY(Do("pause"));
    paused = true;
    return {};
  }
  Status Keep() override {
    EXPECT_TRUE(paused) << "what it does after it is kept would be lost";
    TRY(Do("keep"));
    kept = true;
    return {};
  }
  Status Resume() override {
    TRY(Do("resume"));
    paused = false;
    return {};
  }
  Status Stop() override {
    TRY(Do("stop"));
    old_runs = false;
    return {};
  }
  Life RunRestored() override {
    EXPECT_FALSE(old_runs) << "two machines on the same disks and addresses";
    disks = "restored";
    const Status done = Do("run restored");
    return done.ok() ? Life{.started = true} : Life{.status = done.error()};
  }
  Status PutBack() override {
    TRY(Do("put back"));
    disks = "old";
    return {};
  }
  Life RunOld() override {
    EXPECT_TRUE(kept);
    EXPECT_EQ(disks, "old");
    const Status done = Do("run old");
    went_on = done.ok();
    return done.ok() ? Life{.started = true} : Life{.status = done.error()};
  }

  std::vector<std::string> calls;
  std::string fail_at;
  std::string fail_too;
  bool paused = false;
  bool kept = false;
  bool old_runs = true;
  bool went_on = false;
  std::string disks = "old";

 private:
  Status Do(const std::string& step) {
    calls.push_back(step);
    return step == fail_at || step == fail_too ? Error::Make(ErrorCode::kIo, "{} fails", step)
                                               : Status();
  }
};

TEST(RollBack, OldMachineEndsOnlyWhenTheRestoredOneIsReady) {
  ScriptedSteps steps;
  const Result<ExitStatus> done = RollBackRunning(steps, true);
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(*done, ExitStatus::kDone);
  EXPECT_THAT(steps.calls, ElementsAre("prepare", "pause", "keep", "stop", "run restored"));
}

TEST(RollBack, WithDiscardNothingIsKept) {
  ScriptedSteps steps;
  ASSERT_TRUE(RollBackRunning(steps, false).ok());
  EXPECT_THAT(steps.calls, ElementsAre("prepare", "pause", "stop", "run restored"));
}

TEST(RollBack, WhicheverStepFailsTheOldMachineGoesOn) {
  for (const char* step : {"prepare", "pause", "keep", "stop", "run restored"}) {
    SCOPED_TRACE(step);
    ScriptedSteps steps;
    steps.fail_at = step;
    const Result<ExitStatus> done = RollBackRunning(steps, true);
    EXPECT_TRUE((steps.old_runs && !steps.paused) || steps.went_on);
    EXPECT_EQ(steps.disks, "old");
    // And it is told.
    if (done.ok()) {
      EXPECT_EQ(*done, ExitStatus::kFailed);
    } else {
      EXPECT_THAT(done.error().message(), HasSubstr(std::string(step) + " fails"));
    }
  }
}

TEST(RollBack, WithDiscardAFailureBeforeTheEndLeavesTheOldMachineRunning) {
  for (const char* step : {"prepare", "pause", "stop"}) {
    SCOPED_TRACE(step);
    ScriptedSteps steps;
    steps.fail_at = step;
    EXPECT_FALSE(RollBackRunning(steps, false).ok());
    EXPECT_TRUE(steps.old_runs && !steps.paused);
    EXPECT_EQ(steps.disks, "old");
  }
}

TEST(RollBack, WithDiscardAFailureAfterTheEndPutsTheDisksBack) {
  ScriptedSteps steps;
  steps.fail_at = "run restored";
  const Result<ExitStatus> done = RollBackRunning(steps, false);
  ASSERT_FALSE(done.ok());
  EXPECT_THAT(done.error().message(), HasSubstr("its disks are as they were"));
  EXPECT_EQ(steps.disks, "old");
  EXPECT_EQ(steps.calls.back(), "put back");
}

TEST(RollBack, NoMachineIsStartedOnDisksThatAreNotItsOwn) {
  ScriptedSteps steps;
  steps.fail_at = "run restored";
  steps.fail_too = "put back";
  EXPECT_FALSE(RollBackRunning(steps, true).ok());
  EXPECT_EQ(steps.calls.back(), "put back");
}

TEST(RollBack, OldMachineThatDoesNotGoOnIsTold) {
  ScriptedSteps steps;
  steps.fail_at = "run restored";
  steps.fail_too = "run old";
  const Result<ExitStatus> done = RollBackRunning(steps, true);
  ASSERT_FALSE(done.ok());
  EXPECT_THAT(done.error().message(), HasSubstr("did not go on"));
}

}  // namespace
}  // namespace pacsvisor
