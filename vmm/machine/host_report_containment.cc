// What of a machine's containment this host can keep.
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "vmm/disk/uring_engine.h"
#include "vmm/machine/host_report.h"
#include "vmm/sandbox/cgroup.h"

namespace pacsvisor {
namespace {

// The action that names the call (seccomp(2), SECCOMP_GET_ACTION_AVAIL).
std::string SeccompProblem() {
  const uint32_t action = SECCOMP_RET_TRAP;
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 ? ""
                                                                         : std::strerror(errno);
}

template <typename T>
std::string ProblemOf(const Result<T>& result) {
  return result.ok() ? "" : result.error().message();
}

std::string NamespacesProblem() {
  if (geteuid() != 0) {
    return "only root can make them";
  }
  for (const char* const kind : {"/proc/self/ns/pid", "/proc/self/ns/mnt", "/proc/self/ns/net"}) {
    if (access(kind, F_OK) != 0) {
      return std::string("the kernel has no ") + kind;
    }
  }
  return "";
}

}  // namespace

ContainmentReport ExamineContainment() {
  return {.is_root = geteuid() == 0,
          .seccomp_problem = SeccompProblem(),
          .cgroup_problem = ProblemOf(ProbeCgroups()),
          .namespaces_problem = NamespacesProblem(),
          .uring_restrictions_problem = ProblemOf(UringEngine::Create())};
}

}  // namespace pacsvisor
