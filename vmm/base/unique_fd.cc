#include "vmm/base/unique_fd.h"

#include <unistd.h>

namespace pacsvisor {

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0) {
    ::close(fd_);  // on Linux the descriptor is gone whatever close says; never retried
  }
  fd_ = fd;
}

}  // namespace pacsvisor
