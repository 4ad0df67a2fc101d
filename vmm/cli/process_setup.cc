#include "vmm/cli/process_setup.h"

#include <sys/resource.h>

#include <csignal>

#include "vmm/base/check.h"
#include "vmm/machine/vcpu_thread.h"

namespace pacsvisor {
namespace {

// signal(7): the default of each is to end the process, and none of them says that it should.
// SIGXFSZ: a disk that grew to its limit is a failed write. SIGXCPU: the hard limit will end it.
constexpr int kHarmless[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF,  SIGPOLL,
                             SIGPWR,  SIGPIPE, SIGXCPU, SIGXFSZ,   SIGSTKFLT};

}  // namespace

void SetUpMachineProcess() {
  for (const int number : kHarmless) {
    CHECK(std::signal(number, SIG_IGN) != SIG_ERR, "signal {}", number);
  }
  for (int number = SIGRTMIN; number <= SIGRTMAX; ++number) {
    CHECK(std::signal(number, SIG_IGN) != SIG_ERR, "signal {}", number);
  }
  // What kicks vCPUs: from outside it shall meet them only, who know it.
  sigset_t kick;
  sigemptyset(&kick);
  sigaddset(&kick, kVcpuKickSignal);
  CHECK(pthread_sigmask(SIG_BLOCK, &kick, nullptr) == 0);

  rlimit descriptors;
  if (::getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    descriptors.rlim_cur = descriptors.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &descriptors);  // refused: there are fewer
  }
}

}  // namespace pacsvisor
