#include "vmm/base/thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include <system_error>
#include <utility>

namespace pacsvisor {
namespace {

constexpr size_t kThreadNameBytes = 15;  // TASK_COMM_LEN without its zero

std::function<void(ThreadKind)>& ThreadEntry() {
  static std::function<void(ThreadKind)> entry;
  return entry;
}

}  // namespace

void SetThreadEntry(std::function<void(ThreadKind)> entry) { ThreadEntry() = std::move(entry); }

Result<std::thread> StartThread(ThreadKind kind, std::string name, std::function<void()> body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  // A fault of the thread itself is no asynchronous signal: blocked, it would end the process past
  // whoever has something to put right first (a terminal in raw mode, a sanitizer's report).
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS}) {
    sigdelset(&all, fault);
  }
  // The new thread inherits the mask, so that no signal meant for the main thread lands on it.
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  int failure = 0;
  try {
    thread = std::thread([kind, name, body = std::move(body)] {
      // By itself: another thread would have to open a file of /proc for it.
      prctl(PR_SET_NAME, name.substr(0, kThreadNameBytes).c_str());
      if (ThreadEntry()) {
        ThreadEntry()(kind);
      }
      body();
    });
  } catch (const std::system_error& error) {
    failure = error.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failure != 0) {
    return Error::FromErrno(failure, "cannot start thread {}", name);
  }
  return thread;
}

}  // namespace pacsvisor
