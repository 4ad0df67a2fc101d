#include "vmm/base/trial_process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>

#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;

TEST(TrialProcess, TellsHowItWent) {
  EXPECT_TRUE(RunTrialProcess("it", [](const TellHowItWent& tell) { tell({}); }).ok());
  const std::string text(100'000, 'x');
  const Status refused = RunTrialProcess(
      "it", [&](const TellHowItWent& tell) { tell(Error::Make(ErrorCode::kBusy, "{}", text)); });
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(refused.error().message(), text);
}

TEST(TrialProcess, WithoutAWordIsAnErrorThatNamesIt) {
  for (const bool killed : {false, true}) {
    const Status ended = RunTrialProcess("the trial", [killed](const TellHowItWent&) {
      if (killed) {
        raise(SIGKILL);
      }
    });
    ASSERT_FALSE(ended.ok());
    EXPECT_THAT(ended.error().message(), HasSubstr("the trial ended without a word"));
  }
}

TEST(TrialProcess, IsNotWaitedForOnceItHasTold) {
  std::array<int, 2> hold = {};
  ASSERT_EQ(pipe(hold.data()), 0);
  UniqueFd theirs(hold[0]);
  UniqueFd ours(hold[1]);
  // The new process holds no descriptor of ours but standard error: it is lent this one there.
  const UniqueFd errors(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10));
  ASSERT_EQ(dup2(theirs.get(), STDERR_FILENO), STDERR_FILENO);
  const Status told = RunTrialProcess("it", [](const TellHowItWent& tell) {
    tell({});
    char byte = 0;
    (void)!read(STDERR_FILENO, &byte, 1);  // until this test goes on
  });
  dup2(errors.get(), STDERR_FILENO);
  EXPECT_TRUE(told.ok());
  // No child of this process's, and so nothing that would stay as a zombie.
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(TrialProcess, KeepsNoLockOfTheCallers) {
  const std::string path = testing::TempDir() + "trial-process-lock";
  UniqueFd held(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(flock(held.get(), LOCK_EX), 0);
  const Status told = RunTrialProcess("it", [&](const TellHowItWent& tell) {
    const bool gone = fcntl(STDOUT_FILENO, F_GETFD) < 0;
    tell(gone ? Status() : Error::Make(ErrorCode::kBusy, "it has standard output"));
    alarm(10);  // ends it
    pause();
  });
  EXPECT_TRUE(told.ok());
  held.Reset();
  const UniqueFd next(open(path.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_EQ(flock(next.get(), LOCK_EX | LOCK_NB), 0);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace pacsvisor
