#include "vmm/base/thread_priority.h"

#include <gtest/gtest.h>
#include <linux/ioprio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

namespace pacsvisor {
namespace {

long IoPriority() { return syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0); }

TEST(ThreadPriority, IsLoweredForTheCallingThreadAndThoseItStarts) {
  const int nice = getpriority(PRIO_PROCESS, 0);
  const long io = IoPriority();
  std::thread([nice] {
    LowerIoPriority();
    LowerCpuPriority();
    const auto expect_low = [nice] {
      EXPECT_EQ(IoPriority(), IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7));
      EXPECT_GE(getpriority(PRIO_PROCESS, 0), nice);
      EXPECT_GE(getpriority(PRIO_PROCESS, 0), 5);
    };
    expect_low();
    std::thread(expect_low).join();
  }).join();
  EXPECT_EQ(getpriority(PRIO_PROCESS, 0), nice);
  EXPECT_EQ(IoPriority(), io);
}

}  // namespace
}  // namespace pacsvisor
