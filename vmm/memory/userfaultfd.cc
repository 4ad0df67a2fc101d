#include "vmm/memory/userfaultfd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace pacsvisor {
namespace {

constexpr int kFlags = O_CLOEXEC | O_NONBLOCK;

int SystemCall(int more_flags) {
  return static_cast<int>(::syscall(SYS_userfaultfd, kFlags | more_flags));
}

}  // namespace

Result<UniqueFd> NewUserfaultfd(UserfaultScope scope) {
  UniqueFd fd(SystemCall(scope == UserfaultScope::kUserFaults ? UFFD_USER_MODE_ONLY : 0));
  if (fd.valid()) {
    return fd;
  }
  const int reason = errno;
  // Linux 6.1: whoever may open the device may have one for all faults.
  const UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device.valid()) {
    fd.Reset(::ioctl(device.get(), USERFAULTFD_IOC_NEW, kFlags));
  }
  if (!fd.valid()) {
    return Error::FromErrno(reason,
                            "cannot open a userfaultfd (give this user rights on /dev/userfaultfd, "
                            "or CAP_SYS_PTRACE, or set sysctl vm.unprivileged_userfaultfd=1)");
  }
  return fd;
}

Result<uint64_t> UserfaultFeatures(UserfaultScope scope) {
  const UniqueFd fd = TRY(NewUserfaultfd(scope));
  uffdio_api api = {.api = UFFD_API};
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) {
    return Error::FromErrno(errno, "UFFDIO_API");
  }
  return uint64_t{api.features};
}

Result<UniqueFd> OpenUserfaultfd(UserfaultScope scope, uint64_t features) {
  const uint64_t offered = TRY(UserfaultFeatures(scope));
  if ((features & ~offered) != 0) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this kernel's userfaultfd lacks features {:#x} (linux/userfaultfd.h)",
                       features & ~offered);
  }
  UniqueFd fd = TRY(NewUserfaultfd(scope));
  uffdio_api api = {.api = UFFD_API, .features = features};
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) {
    return Error::FromErrno(errno, "UFFDIO_API with features {:#x}", features);
  }
  return fd;
}

}  // namespace pacsvisor
