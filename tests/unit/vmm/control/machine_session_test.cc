#include "vmm/control/machine_session.h"

#include <gmock/gmock.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/vmm/control/scripted_runner.h"
#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using Reason = MachineEnd::Reason;

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
        while (forces == 0) {  // another thread's to tell
          std::this_thread::yield();
        }
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
