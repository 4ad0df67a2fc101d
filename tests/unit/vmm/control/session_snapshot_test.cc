// A session's snapshots, beside everything else that happens to its machine.
#include <gmock/gmock.h>

#include <string>
#include <thread>

#include "tests/unit/vmm/control/scripted_runner.h"
#include "vmm/control/machine_session.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const SnapshotResult kTaken = {.id = std::string(64, 'a')};

class SessionSnapshotTest : public MachineSessionTest {
 protected:
  uint64_t Begin(const std::string& message = "x") {
    const Result<uint64_t> number = session_.StartSnapshot({.message = message});
    CHECK(number.ok(), "{}", number.error().message());
    return *number;
  }
  SnapshotProgress WaitForOutcome(uint64_t number) {
    while (true) {
      const SnapshotProgress progress = session_.SnapshotStatus(number).value();
      if (progress.result || progress.error) {
        return progress;
      }
      std::this_thread::yield();
    }
  }
  void EndMachine() {
    script_.End(MachineEnd::Reason::kPowerOff);
    EXPECT_TRUE(Join().ok());
  }
};

TEST_F(SessionSnapshotTest, GoesFromItsRequestToItsResult) {
  const uint64_t number = Begin("before the upgrade");
  script_.WaitForCalls(3);
  const SnapshotProgress running = session_.SnapshotStatus(number).value();
  EXPECT_EQ(running.phase, SnapshotPhase::kCopying);
  EXPECT_EQ(running.bytes_done, 1u);
  EXPECT_EQ(running.bytes_total, 2u);
  script_.EndSnapshots(kTaken);
  const SnapshotProgress done = WaitForOutcome(number);
  EXPECT_EQ(done.phase, SnapshotPhase::kDone);
  ASSERT_TRUE(done.result);
  EXPECT_EQ(done.result->id, kTaken.id);
  EXPECT_THAT(Calls(), ElementsAre("snapshot before the upgrade", "snapshot ends"));
  EndMachine();
}

TEST_F(SessionSnapshotTest, OneThatFailsSaysWhy) {
  script_.EndSnapshots(Error::Make(ErrorCode::kNoSpace, "the disk is full"));
  const SnapshotProgress failed = WaitForOutcome(Begin());
  EXPECT_EQ(failed.phase, SnapshotPhase::kFailed);
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->code(), ErrorCode::kNoSpace);
  EXPECT_EQ(failed.error->message(), "the disk is full");
  EndMachine();
}

TEST_F(SessionSnapshotTest, OnlyOneIsTakenAtATime) {
  const uint64_t first = Begin();
  const Result<uint64_t> second = session_.StartSnapshot({});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(second.error().message(), HasSubstr("snapshot 1 is being taken"));
  script_.EndSnapshots(kTaken);
  WaitForOutcome(first);
  EXPECT_EQ(Begin(), 2u);  // at once
  EndMachine();
}

TEST_F(SessionSnapshotTest, PauseAndResumeAreRefusedMeanwhile) {
  const uint64_t number = Begin();
  EXPECT_EQ(session_.Pause().error().code(), ErrorCode::kBusy);
  EXPECT_EQ(session_.Resume().error().code(), ErrorCode::kBusy);
  script_.EndSnapshots(kTaken);
  WaitForOutcome(number);
  EXPECT_TRUE(session_.Pause().ok());
  EXPECT_THAT(Calls(), ElementsAre("snapshot x", "snapshot ends", "pause"));
  EndMachine();
}

TEST_F(SessionSnapshotTest, ACancelledOneFails) {
  const uint64_t number = Begin();
  EXPECT_TRUE(session_.CancelSnapshot(number).ok());
  const SnapshotProgress failed = WaitForOutcome(number);
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->code(), ErrorCode::kCancelled);
  EXPECT_THAT(failed.error->message(), HasSubstr("nothing of it is kept"));
  EXPECT_EQ(session_.CancelSnapshot(number).error().code(), ErrorCode::kNotFound);
  EndMachine();
}

TEST_F(SessionSnapshotTest, AMachineThatEndsCancelsIt) {
  const uint64_t number = Begin();
  EndMachine();
  const SnapshotProgress failed = WaitForOutcome(number);
  ASSERT_TRUE(failed.error);
  EXPECT_THAT(failed.error->message(), HasSubstr("the machine ended"));
  EXPECT_EQ(script_.alive, 0);
}

TEST_F(SessionSnapshotTest, AResetCancelsItAndTheNextMachineTakesOthers) {
  const uint64_t first = Begin();
  script_.End(MachineEnd::Reason::kReset);
  EXPECT_THAT(WaitForOutcome(first).error->message(), HasSubstr("the machine ended"));
  script_.EndSnapshots(kTaken);
  WaitUntilOperable();
  EXPECT_TRUE(WaitForOutcome(Begin()).result);
  EndMachine();
}

TEST_F(SessionSnapshotTest, AForceCancelsIt) {
  const uint64_t number = Begin();
  EXPECT_TRUE(session_.RequestStop({.force = true}).ok());
  EXPECT_TRUE(Join().ok());
  EXPECT_THAT(WaitForOutcome(number).error->message(), HasSubstr("ended by force"));
}

TEST_F(SessionSnapshotTest, AStopLetsItGoOnWhileTheGuestShutsDown) {
  script_.obeys_button = false;
  const uint64_t number = Begin();
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 1000}).ok());
  script_.WaitForCalls(4);  // the button
  EXPECT_FALSE(session_.SnapshotStatus(number)->error);
  script_.EndSnapshots(kTaken);
  EXPECT_TRUE(WaitForOutcome(number).result);
  EndMachine();
}

TEST_F(SessionSnapshotTest, AStoppingMachineBeginsNone) {
  script_.obeys_button = false;
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 1000}).ok());
  const Result<uint64_t> number = session_.StartSnapshot({});
  ASSERT_FALSE(number.ok());
  EXPECT_EQ(number.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(number.error().message(), HasSubstr("stopping"));
  EndMachine();
  EXPECT_FALSE(session_.StartSnapshot({}).ok());
}

// The taker and the button never resume or pause the same machine at the same time.
TEST_F(SessionSnapshotTest, AStopOfAPausedMachineCancelsItBeforeItResumes) {
  EXPECT_TRUE(session_.Pause().ok());
  const uint64_t number = Begin();
  script_.WaitForCalls(4);
  EXPECT_TRUE(session_.RequestStop({.grace_seconds = 1000}).ok());
  EXPECT_TRUE(Join().ok());
  EXPECT_THAT(WaitForOutcome(number).error->message(), HasSubstr("resumed to be stopped"));
  EXPECT_THAT(Calls(), ElementsAre("pause", "snapshot x", "snapshot ends", "resume", "button"));
}

TEST_F(SessionSnapshotTest, AWrongRequestIsRefused) {
  for (const SnapshotRequest& wrong :
       {SnapshotRequest{.message = "a\nb"}, SnapshotRequest{.pause_budget_us = 0},
        SnapshotRequest{.quiesce_timeout_ms = UINT32_MAX}}) {
    EXPECT_EQ(session_.StartSnapshot(wrong).error().code(), ErrorCode::kInvalidArgument);
  }
  EndMachine();
}

TEST_F(SessionSnapshotTest, AnUnknownNumberIsNotFound) {
  EXPECT_EQ(session_.SnapshotStatus(1).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(session_.CancelSnapshot(1).error().code(), ErrorCode::kNotFound);
  EndMachine();
}

TEST(SessionSnapshotStore, WithoutOneThereAreNoSnapshots) {
  Script script;
  MachineSession session(
      {.name = "pacs"},
      [&](const ConsoleOutput&) -> Result<std::unique_ptr<MachineRunner>> {
        return std::unique_ptr<MachineRunner>(std::make_unique<ScriptedRunner>(script));
      },
      [](std::span<const uint8_t>) {}, [] {});
  const Result<uint64_t> number = session.StartSnapshot({});
  ASSERT_FALSE(number.ok());
  EXPECT_EQ(number.error().code(), ErrorCode::kUnsupported);
  EXPECT_THAT(number.error().message(), HasSubstr("[store]"));
}

// All that others may call, while machines end and start.
TEST_F(SessionSnapshotTest, CallsFromAllSidesMeetNoDeadMachine) {
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      while (!done) {
        if (const Result<uint64_t> number = session_.StartSnapshot({}); number.ok()) {
          (void)session_.SnapshotStatus(*number);
          (void)session_.CancelSnapshot(*number);
        }
        (void)session_.Pause();
        (void)session_.Resume();
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    script_.End(MachineEnd::Reason::kReset);
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
