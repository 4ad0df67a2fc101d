#include "vmm/control/snapshot_jobs.h"

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <thread>

namespace pacsvisor {
namespace {

using testing::HasSubstr;

Result<SnapshotResult> Succeed(SnapshotObserver&) {
  return SnapshotResult{.id = std::string(64, 'c')};
}

Result<SnapshotResult> WaitUntilCancelled(SnapshotObserver& observer) {
  while (!observer.cancelled()) {
    std::this_thread::yield();
  }
  return Error::Make(ErrorCode::kCancelled, "noticed");
}

TEST(SnapshotJobs, NumbersCountFromOne) {
  SnapshotJobs jobs;
  ASSERT_TRUE(jobs.StartWorker().ok());
  for (uint64_t number = 1; number <= 3; ++number) {
    EXPECT_EQ(jobs.Start(Succeed).value(), number);
    jobs.WaitUntilIdle();
  }
}

TEST(SnapshotJobs, TheLastOnesAreRemembered) {
  SnapshotJobs jobs;
  ASSERT_TRUE(jobs.StartWorker().ok());
  constexpr uint64_t kCount = SnapshotJobs::kRemembered + 3;
  for (uint64_t number = 1; number <= kCount; ++number) {
    ASSERT_TRUE(jobs.Start(Succeed).ok());
    jobs.WaitUntilIdle();
  }
  ASSERT_TRUE(jobs.Start(WaitUntilCancelled).ok());  // beside the one that runs
  for (uint64_t number = 1; number <= kCount; ++number) {
    const Result<SnapshotProgress> progress = jobs.Progress(number);
    EXPECT_EQ(progress.ok(), number + SnapshotJobs::kRemembered > kCount) << number;
    if (!progress.ok()) {
      EXPECT_EQ(progress.error().code(), ErrorCode::kNotFound);
    }
  }
}

TEST(SnapshotJobs, WhatTheBodyHoldsIsGoneBeforeTheEndIsTold) {
  for (int round = 0; round < 50; ++round) {
    SnapshotJobs jobs;
    ASSERT_TRUE(jobs.StartWorker().ok());
    auto held = std::make_shared<int>(0);
    const std::weak_ptr<int> seen = held;
    const uint64_t number = jobs.Start([held = std::move(held)](SnapshotObserver& observer) {
                                  return Succeed(observer);
                                })
                                .value();
    while (!jobs.Progress(number)->result) {
      std::this_thread::yield();
    }
    EXPECT_TRUE(seen.expired());
    EXPECT_FALSE(jobs.running());
  }
}

TEST(SnapshotJobs, AnInterruptedOneFailsWithTheFirstReason) {
  SnapshotJobs jobs;
  ASSERT_TRUE(jobs.StartWorker().ok());
  const uint64_t number = jobs.Start(WaitUntilCancelled).value();
  jobs.Interrupt("the first");
  jobs.Interrupt("the second");
  jobs.WaitUntilIdle();
  EXPECT_EQ(jobs.Progress(number)->error->message(), "the first");
}

TEST(SnapshotJobs, AnErrorOfAnotherKindIsNotHiddenByTheReason) {
  SnapshotJobs jobs;
  ASSERT_TRUE(jobs.StartWorker().ok());
  const uint64_t number = jobs.Start([](SnapshotObserver& observer) -> Result<SnapshotResult> {
                                (void)WaitUntilCancelled(observer);
                                return Error::Make(ErrorCode::kIo, "the disk broke");
                              })
                              .value();
  jobs.Interrupt("why");
  jobs.WaitUntilIdle();
  EXPECT_EQ(jobs.Progress(number)->error->message(), "the disk broke");
}

TEST(SnapshotJobs, OneThatIsCommittedAllTheSameIsDone) {
  SnapshotJobs jobs;
  ASSERT_TRUE(jobs.StartWorker().ok());
  const uint64_t number = jobs.Start([](SnapshotObserver& observer) {
                                (void)WaitUntilCancelled(observer);
                                return Succeed(observer);
                              })
                              .value();
  EXPECT_TRUE(jobs.Cancel(number).ok());
  jobs.WaitUntilIdle();
  EXPECT_TRUE(jobs.Progress(number)->result);
  EXPECT_FALSE(jobs.Progress(number)->error);
}

TEST(SnapshotJobs, AnInterruptMeetsNoLaterOne) {
  SnapshotJobs jobs;
  ASSERT_TRUE(jobs.StartWorker().ok());
  jobs.Interrupt("nobody");
  const uint64_t number = jobs.Start(Succeed).value();
  jobs.WaitUntilIdle();
  EXPECT_TRUE(jobs.Progress(number)->result);
}

TEST(SnapshotJobs, TheirEndWaitsForTheOneThatRuns) {
  bool ended = false;
  {
    SnapshotJobs jobs;
    ASSERT_TRUE(jobs.StartWorker().ok());
    ASSERT_TRUE(jobs.Start([&](SnapshotObserver& observer) {
                      Result<SnapshotResult> outcome = WaitUntilCancelled(observer);
                      ended = true;
                      return outcome;
                    })
                    .ok());
  }
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace pacsvisor
