// When scheduled snapshots are due, and what their keeper asks of the machine.
#include "vmm/control/snapshot_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "tests/unit/vmm/control/fake_machine.h"
#include "vmm/control/scheduled_snapshots.h"

namespace pacsvisor {
namespace {

using testing::Each;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kHour = 3600 * kSecond;
constexpr uint64_t kNow = 77 * kHour;

TEST(SnapshotSchedule, GoesOnFromTheNewestSnapshot) {
  EXPECT_EQ(SnapshotSchedule(kHour, kHour / 4, kNow).due_ns(), kNow + kHour / 4 * 3);
}

TEST(SnapshotSchedule, LeavesAGuestThatStartsAloneForAMinute) {
  for (const std::optional<uint64_t> age :
       {std::optional<uint64_t>(), std::optional(kHour), std::optional(kHour - 1),
        std::optional(1000 * kHour)}) {
    EXPECT_EQ(SnapshotSchedule(kHour, age, kNow).due_ns(), kNow + 60 * kSecond);
  }
  EXPECT_EQ(SnapshotSchedule(5 * kSecond, {}, kNow).due_ns(), kNow + 5 * kSecond);
}

TEST(SnapshotSchedule, CountsFromTheBeginOfTheLastOne) {
  SnapshotSchedule schedule(kHour, {}, kNow);
  schedule.Done(kNow + 60 * kSecond);
  EXPECT_EQ(schedule.due_ns(), kNow + 60 * kSecond + kHour);
}

TEST(SnapshotSchedule, TriesAgainLaterAndLaterUpToAPeriod) {
  SnapshotSchedule schedule(kHour, {}, kNow);
  uint64_t after = 30 * kSecond;
  for (uint64_t failure = 1; failure <= 100; ++failure) {
    schedule.Failed(kNow, "full");
    EXPECT_EQ(schedule.due_ns(), kNow + std::min(after, kHour)) << failure;
    EXPECT_EQ(schedule.failures(), failure);
    after = std::min(2 * after, 2 * kHour);
  }
  EXPECT_EQ(schedule.last_error(), "full");
  schedule.Done(kNow);
  EXPECT_EQ(schedule.failures(), 0u);
  EXPECT_EQ(schedule.last_error(), "");
  schedule.Failed(kNow, "full");
  EXPECT_EQ(schedule.due_ns(), kNow + 30 * kSecond);
}

TEST(SnapshotSchedule, WaitingForItsTurnIsNoFailure) {
  SnapshotSchedule schedule(kHour, {}, kNow);
  schedule.Busy(kNow);
  EXPECT_EQ(schedule.due_ns(), kNow + 5 * kSecond);
  EXPECT_EQ(schedule.failures(), 0u);
}

template <typename Condition>
void AwaitThat(const Condition& holds) {
  while (!holds()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

constexpr ScheduleOptions kOften{.every_ns = 1'000'000, .quiesce = true, .newest_age_ns = {}};

TEST(ScheduledSnapshots, AreTakenAgainAndAgainUntilTheEnd) {
  FakeMachine machine;
  ScheduledSnapshots scheduled(machine, kOften);
  ASSERT_TRUE(scheduled.Start().ok());
  AwaitThat([&] { return machine.calls().size() >= 3; });
  scheduled.Stop();
  const std::vector<std::string> calls = machine.calls();
  EXPECT_THAT(calls, Each("snapshot 'scheduled' 5000 true 10000"));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(machine.calls(), calls);
}

TEST(ScheduledSnapshots, AreNotBegunWhileOneIsBeingTaken) {
  FakeMachine machine;
  machine.SetProgress({{.number = FakeMachine::kSnapshot}});
  ScheduledSnapshots scheduled(machine, kOften);
  ASSERT_TRUE(scheduled.Start().ok());
  AwaitThat([&] { return !machine.calls().empty(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(machine.calls().size(), 1u);
  machine.SetProgress({FakeMachine::DoneSnapshot()});
  AwaitThat([&] { return machine.calls().size() > 1; });
}

TEST(ScheduledSnapshots, StopDoesNotWaitForOneThatIsBeingTaken) {
  FakeMachine machine;
  machine.SetProgress({{.number = FakeMachine::kSnapshot}});
  ScheduledSnapshots scheduled(machine, kOften);
  ASSERT_TRUE(scheduled.Start().ok());
  AwaitThat([&] { return !machine.calls().empty(); });
  scheduled.Stop();
}

TEST(ScheduledSnapshots, FailuresAreToldAndTriedAgainUntilOneSucceeds) {
  FakeMachine machine;
  machine.FailWith(Error::Make(ErrorCode::kNoSpace, "the store is full"));
  ScheduledSnapshots scheduled(machine, kOften);
  ASSERT_TRUE(scheduled.Start().ok());
  AwaitThat([&] { return scheduled.Describe().failures >= 2; });
  EXPECT_EQ(scheduled.Describe().last_error, "the store is full");
  machine.FailWith(Error::Make(ErrorCode::kBusy, "snapshot 3 is being taken"));
  const size_t calls = machine.calls().size();
  AwaitThat([&] { return machine.calls().size() > calls + 2; });
  EXPECT_EQ(scheduled.Describe().last_error, "the store is full");
  machine.SucceedAgain();
  AwaitThat([&] { return scheduled.Describe().failures == 0; });
  EXPECT_EQ(scheduled.Describe().last_error, "");
  EXPECT_EQ(scheduled.Describe().every_ms, 1u);
}

TEST(ScheduledSnapshots, OneThatFailsInTheEndIsAFailure) {
  FakeMachine machine;
  machine.SetProgress({{.number = FakeMachine::kSnapshot,
                        .phase = SnapshotPhase::kFailed,
                        .error = Error::Make(ErrorCode::kIo, "the disk is broken")}});
  ScheduledSnapshots scheduled(machine, kOften);
  ASSERT_TRUE(scheduled.Start().ok());
  AwaitThat([&] { return scheduled.Describe().failures != 0; });
  EXPECT_EQ(scheduled.Describe().last_error, "the disk is broken");
}

}  // namespace
}  // namespace pacsvisor
