#include "vmm/control/machine_session.h"

#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/clock.h"
#include "vmm/base/thread_annotations.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using Reason = MachineEnd::Reason;

// What the test knows of all the machines that a session built.
class Script {
 public:
  void Note(const std::string& call) {
    MutexLock lock(mutex_);
    calls_.push_back(call);
    changed_.notify_all();
  }
  std::vector<std::string> calls() {
    MutexLock lock(mutex_);
    return calls_;
  }
  void WaitForCalls(size_t count) {
    MutexLock lock(mutex_);
    while (calls_.size() < count) {
      changed_.wait(mutex_);
    }
  }
  // The machine that runs ends like this.
  void End(Reason reason) {
    MutexLock lock(mutex_);
    end_ = reason;
    changed_.notify_all();
  }
  Reason WaitForEnd() {
    MutexLock lock(mutex_);
    while (!end_) {
      changed_.wait(mutex_);
    }
    const Reason reason = *end_;
    end_.reset();
    return reason;
  }

  void HoldPauses() {
    MutexLock lock(mutex_);
    pauses_held_ = true;
  }
  void LetPausesGo() {
    MutexLock lock(mutex_);
    pauses_held_ = false;
    changed_.notify_all();
  }
  void WaitForPauses() {
    MutexLock lock(mutex_);
    while (pauses_held_) {
      changed_.wait(mutex_);
    }
  }

  std::atomic<bool> obeys_button = true;
  std::atomic<int> alive = 0;
  Status start_result;

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::string> calls_ GUARDED_BY(mutex_);
  std::optional<Reason> end_ GUARDED_BY(mutex_);
  bool pauses_held_ GUARDED_BY(mutex_) = false;
};

class ScriptedRunner : public MachineRunner {
 public:
  explicit ScriptedRunner(Script& script) : script_(script) { EXPECT_EQ(++script_.alive, 1); }
  ~ScriptedRunner() override { --script_.alive; }

  Status Start() override {
    script_.Note("start");
    return script_.start_result;
  }
  MachineEnd Wait() override { return {.reason = script_.WaitForEnd(), .report = "report"}; }
  Status Pause() override {
    script_.Note("pause");
    script_.WaitForPauses();
    return {};
  }
  Status Resume() override {
    script_.Note("resume");
    return {};
  }
  void PressPowerButton() override {
    script_.Note("button");
    if (script_.obeys_button) {
      script_.End(Reason::kPowerOff);
    }
  }
  void ForceStop() override {
    script_.Note("force");
    script_.End(Reason::kForced);
  }
  void ConsoleInput(std::span<const uint8_t> bytes) override {
    script_.Note("input " + std::string(bytes.begin(), bytes.end()));
  }

 private:
  Script& script_;
};

class MachineSessionTest : public testing::Test {
 protected:
  void SetUp() override {
    thread_ = std::thread([this] { exit_ = session_.Run(); });
    script_.WaitForCalls(1);
    WaitUntilOperable();
  }
  Result<MachineEnd> Join() {
    thread_.join();
    return *exit_;
  }
  // Started is noted before the session may use the machine.
  void WaitUntilOperable() {
    while (!session_.Resume().ok()) {
      std::this_thread::yield();
    }
  }
  // What follows the start and the one Resume that succeeded.
  std::vector<std::string> Calls() {
    std::vector<std::string> calls = script_.calls();
    calls.erase(calls.begin(), calls.begin() + 2);
    return calls;
  }

  Script script_;
  std::atomic<int> forces_ = 0;  // as the owner of the process is told of them
  MachineSession session_{
      {.name = "pacs"},
      [this](const ConsoleOutput&) -> Result<std::unique_ptr<MachineRunner>> {
        return std::unique_ptr<MachineRunner>(std::make_unique<ScriptedRunner>(script_));
      },
      [](std::span<const uint8_t>) {},
      [this] { ++forces_; }};
  std::optional<Result<MachineEnd>> exit_;
  std::thread thread_;
};

TEST_F(MachineSessionTest, EndsWhenTheGuestPowersOff) {
  script_.End(Reason::kPowerOff);
  const Result<MachineEnd> exit = Join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kPowerOff);
}

TEST_F(MachineSessionTest, AFaultIsHandedOnWithItsReport) {
  script_.End(Reason::kGuestFault);
  const Result<MachineEnd> exit = Join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kGuestFault);
  EXPECT_EQ(exit->report, "report");
}

TEST_F(MachineSessionTest, AResetStartsANewMachineAfterTheOldOneIsGone) {
  script_.End(Reason::kReset);
  script_.WaitForCalls(3);  // start, resume, start; the runner checks that it is alone
  script_.End(Reason::kPowerOff);
  EXPECT_TRUE(Join().ok());
  EXPECT_THAT(Calls(), ElementsAre("start"));
}

TEST_F(MachineSessionTest, AMachineThatCannotStartAgainEndsTheSession) {
  script_.start_result = Error::Make(ErrorCode::kBusy, "disk in use");
  script_.End(Reason::kReset);
  const Result<MachineEnd> exit = Join();
  ASSERT_FALSE(exit.ok());
  EXPECT_EQ(exit.error().message(), "disk in use");
}

TEST_F(MachineSessionTest, PauseAndResumeShowInTheState) {
  EXPECT_EQ(session_.Describe().state, MachineState::kRunning);
  EXPECT_TRUE(session_.Pause().ok());
  EXPECT_EQ(session_.Describe().state, MachineState::kPaused);
  EXPECT_TRUE(session_.Pause().ok());
  EXPECT_TRUE(session_.Resume().ok());
  EXPECT_EQ(session_.Describe().state, MachineState::kRunning);
  script_.End(Reason::kPowerOff);
  EXPECT_TRUE(Join().ok());
}

TEST_F(MachineSessionTest, AStopPressesThePowerButton) {
  EXPECT_TRUE(session_.RequestStop({}).ok());
  const Result<MachineEnd> exit = Join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kPowerOff);
  EXPECT_THAT(Calls(), ElementsAre("button"));
}

TEST_F(MachineSessionTest, APausedMachineIsResumedToSeeTheButton) {
  EXPECT_TRUE(session_.Pause().ok());
  EXPECT_TRUE(session_.RequestStop({}).ok());
  EXPECT_TRUE(Join().ok());
  EXPECT_THAT(Calls(), ElementsAre("pause", "resume", "button"));
}

TEST_F(MachineSessionTest, AGuestThatIgnoresTheButtonIsForcedAfterTheGrace) {
  script_.obeys_button = false;
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 1}).ok());
  const Result<MachineEnd> exit = Join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kForced);
  EXPECT_THAT(Calls(), ElementsAre("button", "force"));
}

TEST_F(MachineSessionTest, ForceNeedsNoButton) {
  EXPECT_TRUE(session_.Pause().ok());
  EXPECT_TRUE(session_.RequestStop({.force = true}).ok());
  const Result<MachineEnd> exit = Join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kForced);
  EXPECT_THAT(Calls(), ElementsAre("pause", "force"));
}

TEST_F(MachineSessionTest, ASecondStopMayShortenTheGrace) {
  script_.obeys_button = false;
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = StopRequest::kMaxGraceSeconds}).ok());
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 0}).ok());
  const Result<MachineEnd> exit = Join();  // a day later, were it not
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kForced);
}

// The first button came too early for the guest; what counts is the grace of the one it hears.
TEST_F(MachineSessionTest, ASecondStopHasItsWholeGrace) {
  script_.obeys_button = false;
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 2}).ok());
  const uint64_t second_ns = MonotonicNs();
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 3}).ok());
  const Result<MachineEnd> exit = Join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kForced);
  EXPECT_GE(MonotonicNs() - second_ns, 3'000'000'000u);
  EXPECT_EQ(forces_, 1);
}

TEST_F(MachineSessionTest, AForceIsNotTakenBack) {
  script_.obeys_button = false;
  EXPECT_TRUE(session_.Pause().ok());
  EXPECT_TRUE(session_.RequestStop({.force = true}).ok());
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = StopRequest::kMaxGraceSeconds}).ok());
  EXPECT_TRUE(session_.RequestStop({.force = true}).ok());
  const Result<MachineEnd> exit = Join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kForced);
  EXPECT_EQ(forces_, 1);
}

// As when a disk's file does not answer.
TEST_F(MachineSessionTest, AGraceEndsThoughAPauseHangs) {
  script_.obeys_button = false;
  script_.HoldPauses();
  std::thread pause([this] { (void)session_.Pause(); });
  script_.WaitForCalls(3);
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 0}).ok());
  script_.WaitForCalls(4);
  EXPECT_THAT(Calls(), ElementsAre("pause", "force"));
  EXPECT_EQ(forces_, 1);
  script_.LetPausesGo();
  pause.join();
  EXPECT_EQ(Join()->reason, Reason::kForced);
}

TEST_F(MachineSessionTest, AStoppingMachineIsNotPaused) {
  script_.obeys_button = false;
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 1000}).ok());
  EXPECT_EQ(session_.Describe().state, MachineState::kStopping);
  EXPECT_FALSE(session_.Pause().ok());
  EXPECT_FALSE(session_.Resume().ok());
  EXPECT_TRUE(session_.RequestStop({.force = true}).ok());
  EXPECT_TRUE(Join().ok());
}

TEST_F(MachineSessionTest, AGuestThatResetsInsteadOfPoweringOffEnds) {
  script_.obeys_button = false;
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 1000}).ok());
  script_.End(Reason::kReset);
  const Result<MachineEnd> exit = Join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kReset);
}

TEST_F(MachineSessionTest, WhatIsTypedReachesTheMachine) {
  const std::string typed = "ls";
  // Characters as bytes.
  session_.ConsoleInput({reinterpret_cast<const uint8_t*>(typed.data()), typed.size()});
  script_.End(Reason::kPowerOff);
  EXPECT_TRUE(Join().ok());
  EXPECT_THAT(Calls(), ElementsAre("input ls"));
}

TEST_F(MachineSessionTest, AfterTheEndNothingIsTouched) {
  script_.End(Reason::kPowerOff);
  EXPECT_TRUE(Join().ok());
  EXPECT_EQ(script_.alive, 0);
  EXPECT_FALSE(session_.Pause().ok());
  EXPECT_TRUE(session_.RequestStop({.force = true}).ok());
  session_.ConsoleInput({});
  session_.Describe();
  EXPECT_THAT(Calls(), ElementsAre());
}

TEST(MachineSessionStart, AStopBeforeTheStartStartsNothing) {
  Script script;
  std::optional<MachineSession> session;
  session.emplace(
      MachineDescription{.name = "pacs"},
      [&](const ConsoleOutput&) -> Result<std::unique_ptr<MachineRunner>> {
        EXPECT_TRUE(session->RequestStop({}).ok());  // while it is built
        return std::unique_ptr<MachineRunner>(std::make_unique<ScriptedRunner>(script));
      },
      [](std::span<const uint8_t>) {}, [] {});
  const Result<MachineEnd> exit = session->Run();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->reason, Reason::kForced);
  EXPECT_THAT(script.calls(), ElementsAre());
  EXPECT_EQ(script.alive, 0);
}

TEST(MachineSessionStart, AForceIsToldThoughNoMachineIsThereYet) {
  Script script;
  std::atomic<int> forces = 0;
  std::optional<MachineSession> session;
  session.emplace(
      MachineDescription{.name = "pacs"},
      [&](const ConsoleOutput&) -> Result<std::unique_ptr<MachineRunner>> {
        EXPECT_TRUE(session->RequestStop({.force = true}).ok());
        EXPECT_EQ(forces, 1);
        return Error::Make(ErrorCode::kIo, "the disk answered at last");
      },
      [](std::span<const uint8_t>) {}, [&] { ++forces; });
  EXPECT_FALSE(session->Run().ok());
}

// All that others may call, while machines end and start.
TEST_F(MachineSessionTest, CallsFromAllSidesMeetNoDeadMachine) {
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      while (!done) {
        (void)session_.Pause();
        (void)session_.Resume();
        session_.ConsoleInput({});
        session_.Describe();
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    script_.End(Reason::kReset);
    std::this_thread::yield();
  }
  EXPECT_TRUE(session_.RequestStop({.force = true}).ok());
  EXPECT_TRUE(Join().ok());
  done = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace
}  // namespace pacsvisor
