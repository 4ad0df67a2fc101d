#include "vmm/cli/raw_terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>

#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

constexpr int kOutlived = 101;  // what was to kill it

class RawTerminalTest : public testing::Test {
 protected:
  void SetUp() override {
    int master = -1;
    int slave = -1;
    ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
    master_.Reset(master);
    slave_.Reset(slave);
    before_ = Mode();
  }
  termios Mode() {
    termios mode = {};
    CHECK(tcgetattr(slave_.get(), &mode) == 0);
    return mode;
  }
  void ExpectAsBefore() {
    const termios now = Mode();
    EXPECT_EQ(now.c_lflag, before_.c_lflag);
    EXPECT_EQ(now.c_iflag, before_.c_iflag);
    EXPECT_EQ(now.c_oflag, before_.c_oflag);
    EXPECT_EQ(now.c_cflag, before_.c_cflag);
  }
  // Runs `body` in a child with the terminal in raw mode; returns how the child ended.
  int InChild(const std::function<void()>& body) {
    const pid_t child = fork();
    if (child == 0) {
      const auto terminal = RawTerminal::Enter(slave_.get());
      if (!terminal.ok() || (Mode().c_lflag & ICANON) != 0) {
        _exit(100);
      }
      body();
      _exit(kOutlived);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
  }

  UniqueFd master_;
  UniqueFd slave_;
  termios before_ = {};
};

TEST_F(RawTerminalTest, HandsEveryKeyOnAndKeepsOutputProcessing) {
  const auto terminal = RawTerminal::Enter(slave_.get());
  ASSERT_TRUE(terminal.ok());
  const termios mode = Mode();
  EXPECT_EQ(mode.c_lflag & (ICANON | ECHO | ISIG), 0u);
  EXPECT_NE(mode.c_oflag & OPOST, 0u);
}

TEST_F(RawTerminalTest, PutsTheModeBack) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(RawTerminal::Enter(slave_.get()).ok());
    ExpectAsBefore();
  }
}

// Sanitizers have handlers of their own for some of these, which end the process by exiting.
TEST_F(RawTerminalTest, PutsTheModeBackWhenTheProcessDies) {
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
    const int status = InChild([number] { raise(number); });
    if (WIFSIGNALED(status)) {
      EXPECT_EQ(WTERMSIG(status), number);
      ExpectAsBefore();
    } else {
      EXPECT_NE(WEXITSTATUS(status), kOutlived) << number;
    }
    CHECK(tcsetattr(slave_.get(), TCSANOW, &before_) == 0);
  }
}

TEST_F(RawTerminalTest, PutsTheModeBackAtAFaultOfTheProcess) {
  const int status = InChild([] {
    volatile int* const nowhere = nullptr;
    *nowhere = 1;
  });
  if (WIFSIGNALED(status)) {
    EXPECT_EQ(WTERMSIG(status), SIGSEGV);
    ExpectAsBefore();
  } else {
    EXPECT_NE(WEXITSTATUS(status), kOutlived);
  }
}

TEST_F(RawTerminalTest, AFileIsNoTerminal) {
  const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(RawTerminal::IsOurs(file.get()));
  EXPECT_FALSE(RawTerminal::Enter(file.get()).ok());
}

TEST_F(RawTerminalTest, OnlyTheForegroundOfATerminalOwnsIt) {
  EXPECT_FALSE(RawTerminal::IsOurs(slave_.get()));  // it is not this process's terminal
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    const bool controls = ioctl(slave_.get(), TIOCSCTTY, 0) == 0;
    _exit(controls && RawTerminal::IsOurs(slave_.get()) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace pacsvisor
