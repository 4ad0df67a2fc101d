#include "vmm/sandbox/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <utility>

#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

// The child's end of a pipe whose other end only the supervisor has.
UniqueFd& Lifeline() {
  static UniqueFd lifeline;
  return lifeline;
}

Result<UniqueFd> CatchSignals(const std::vector<int>& signals) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (const int number : signals) {
    sigaddset(&set, number);
  }
  CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot make a signalfd");
  }
  return fd;
}

Result<pid_t> Fork(bool pid_namespace) {
  // The child is born into it; this process stays where it is.
  if (pid_namespace && unshare(CLONE_NEWPID) != 0) {
    return Error::FromErrno(errno, "cannot make a pid namespace");
  }
  std::fflush(nullptr);  // else both would write what waits there
  const pid_t child = fork();
  if (child < 0) {
    return Error::FromErrno(errno, "cannot make a process for the machine");
  }
  return child;
}

// Until a signal is there. A negative descriptor is not looked at.
void WaitForSignal(int signals, int news, const std::function<void()>& on_news) {
  std::array<pollfd, 2> entries = {{{.fd = signals, .events = POLLIN, .revents = 0},
                                    {.fd = news, .events = POLLIN, .revents = 0}}};
  while (entries[0].revents == 0) {
    if (poll(entries.data(), entries.size(), -1) < 0) {
      CHECK(errno == EINTR, "poll: {}", errno);
      entries[0].revents = 0;
      continue;
    }
    if (entries[1].revents != 0) {
      entries[1].fd = -1;
      on_news();
    }
  }
}

ChildEnd WaitFor(pid_t child, int signals, const SupervisorOptions& options) {
  int news = options.news_fd;
  while (true) {
    WaitForSignal(signals, news, [&news, &options] {
      news = -1;
      options.on_news();
    });
    signalfd_siginfo info;
    if (read(signals, &info, sizeof(info)) != sizeof(info)) {
      CHECK(errno == EINTR, "signalfd: {}", errno);
      continue;
    }
    if (info.ssi_signo != SIGCHLD) {
      // A terminal's keys reach every process of the group: the child has had them.
      if (info.ssi_code != SI_KERNEL) {
        kill(child, static_cast<int>(info.ssi_signo));
      }
      continue;
    }
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child) {
      return WIFSIGNALED(status) ? ChildEnd{.signal = WTERMSIG(status)}
                                 : ChildEnd{.exit_status = WEXITSTATUS(status)};
    }
  }
}

}  // namespace

Result<ChildEnd> Supervise(const SupervisorOptions& options, const std::function<int()>& body) {
  std::array<int, 2> ends = {};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    return Error::FromErrno(errno, "cannot make a pipe");
  }
  UniqueFd childs(ends[0]);
  UniqueFd own(ends[1]);
  const UniqueFd signals = TRY(CatchSignals(options.signals));
  const pid_t child = TRY(Fork(options.pid_namespace));
  if (child == 0) {
    own.Reset();
    Lifeline() = std::move(childs);
    const int status = body();
    std::fflush(nullptr);
    _exit(status);  // what the supervisor has is the supervisor's to take down
  }
  return WaitFor(child, signals.get(), options);
}

Status DieWithSupervisor() {
  if (!Lifeline().valid()) {
    return {};
  }
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
    return Error::FromErrno(errno, "cannot tie this process to its supervisor");
  }
  pollfd entry = {.fd = Lifeline().get(), .events = 0, .revents = 0};
  if (poll(&entry, 1, 0) > 0 && (entry.revents & POLLHUP) != 0) {
    raise(SIGKILL);  // it died before it was tied to
  }
  return {};
}

}  // namespace pacsvisor
