#include "vmm/base/thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

namespace pacsvisor {

Result<std::thread> StartThread(const std::string& name, std::function<void()> body) {
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
    thread = std::thread(std::move(body));
  } catch (const std::system_error& error) {
    failure = error.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failure != 0) {
    return Error::FromErrno(failure, "cannot start thread {}", name);
  }
  pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
  return thread;
}

}  // namespace pacsvisor
