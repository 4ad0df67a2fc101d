#include "vmm/cli/raw_terminal.h"

#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>

namespace pacsvisor {
namespace {

constexpr std::array kFatalSignals = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};

// For the signal handler, which has nothing else to find them by.
termios g_before;
std::atomic<int> g_fd = -1;

void RestoreMode() {
  const int fd = g_fd.exchange(-1);
  if (fd >= 0) {
    tcsetattr(fd, TCSANOW, &g_before);  // async-signal-safe (POSIX, 2.4.3)
  }
}

// The handler is gone when this runs (SA_RESETHAND). After a fault, returning meets it again, and
// the process ends as it would have; a signal that was sent has to be sent again.
void OnFatalSignal(int number, siginfo_t* info, void*) {
  RestoreMode();
  if (info->si_code <= 0) {  // by kill(2), raise(3) or abort(3)
    raise(number);
  }
}

void HandleFatalSignals() {
  struct sigaction action = {};
  action.sa_sigaction = OnFatalSignal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_SIGINFO);
  for (const int number : kFatalSignals) {
    struct sigaction current;
    // A sanitizer's handler reports more than it is worth to lose.
    if (sigaction(number, nullptr, &current) == 0 && current.sa_handler == SIG_DFL) {
      sigaction(number, &action, nullptr);
    }
  }
}

}  // namespace

bool RawTerminal::IsOurs(int fd) { return isatty(fd) == 1 && tcgetpgrp(fd) == getpgrp(); }

Result<std::unique_ptr<RawTerminal>> RawTerminal::Enter(int fd) {
  CHECK(g_fd.load() == -1, "a terminal is in raw mode");
  if (tcgetattr(fd, &g_before) != 0) {
    return Error::FromErrno(errno, "cannot read the terminal's mode");
  }
  g_fd = fd;
  HandleFatalSignals();
  termios raw = g_before;
  cfmakeraw(&raw);
  raw.c_oflag |= OPOST;
  if (tcsetattr(fd, TCSANOW, &raw) != 0) {
    const int reason = errno;
    g_fd = -1;
    return Error::FromErrno(reason, "cannot set the terminal to raw mode");
  }
  return std::unique_ptr<RawTerminal>(new RawTerminal());
}

RawTerminal::~RawTerminal() { RestoreMode(); }

void RawTerminal::Restore() { RestoreMode(); }

}  // namespace pacsvisor
