#include "vmm/base/thread_priority.h"

#include <linux/ioprio.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr int kLowestLevel = 7;
constexpr int kNicer = 5;
constexpr uint64_t kUnaskedNs = 500'000;

}  // namespace

void LowerIoPriority() {
  // Refused by a kernel without block devices only.
  (void)::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                  IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, kLowestLevel));
}

void LowerCpuPriority() {
  // Of the thread alone: Linux has it so (sched(7)). What is below the lowest becomes that.
  (void)::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + kNicer);
}

void LetOthersRun() {
  thread_local uint64_t asked_ns = 0;
  if (MonotonicNs() - asked_ns < kUnaskedNs) {
    return;
  }
  ::sched_yield();
  asked_ns = MonotonicNs();
}

}  // namespace pacsvisor
