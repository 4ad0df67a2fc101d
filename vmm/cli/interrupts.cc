#include "vmm/cli/interrupts.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace pacsvisor {

Result<Interrupts> Interrupts::Catch() {
  sigset_t caught;
  sigset_t before;
  sigemptyset(&caught);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action;
    // A shell's background jobs and nohup ignore some: they stay ignored.
    if (sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) {
      sigaddset(&caught, number);
    }
  }
  UniqueFd fd(signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot catch signals");
  }
  if (const int reason = pthread_sigmask(SIG_BLOCK, &caught, &before); reason != 0) {
    return Error::FromErrno(reason, "cannot catch signals");
  }
  return Interrupts(std::move(fd), before);
}

Interrupts::Interrupts(Interrupts&& other) noexcept
    : fd_(std::move(other.fd_)), before_(other.before_) {}

Interrupts::~Interrupts() {
  if (fd_.valid()) {
    Restore();
  }
}

bool Interrupts::Take(uint32_t timeout_ms) {
  pollfd entry = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
  if (poll(&entry, 1, static_cast<int>(timeout_ms)) <= 0) {
    return false;
  }
  signalfd_siginfo info;
  bool taken = false;
  while (read(fd_.get(), &info, sizeof(info)) == sizeof(info)) {
    taken = true;
  }
  return taken;
}

void Interrupts::Restore() const { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace pacsvisor
