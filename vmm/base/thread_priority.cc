#include "vmm/base/thread_priority.h"

#include <linux/ioprio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pacsvisor {
namespace {

constexpr int kLowestLevel = 7;
constexpr int kNice = 5;

}  // namespace

void LowerIoPriority() {
  // Refused by a kernel without block devices only.
  (void)::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                  IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, kLowestLevel));
}

void LowerCpuPriority() {
  // Of the thread alone: Linux has it so (sched(7)). Who is lower already stays there.
  if (::getpriority(PRIO_PROCESS, 0) < kNice) {
    (void)::setpriority(PRIO_PROCESS, 0, kNice);
  }
}

}  // namespace pacsvisor
