#include "vmm/disk/host_io.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

namespace pacsvisor {

int FallocateMode(IoKind kind) {
  return FALLOC_FL_KEEP_SIZE |
         (kind == IoKind::kPunchHole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

int64_t RunBlocking(int fd, const IoOperation& operation) {
  const auto offset = static_cast<off_t>(operation.offset_bytes);
  const int count = static_cast<int>(operation.iovec_count);
  int64_t result = -EINVAL;
  switch (operation.kind) {
    case IoKind::kRead:
      result = ::preadv(fd, operation.iovecs, count, offset);
      break;
    case IoKind::kWrite:
      result = ::pwritev2(fd, operation.iovecs, count, offset, operation.durable ? RWF_DSYNC : 0);
      break;
    case IoKind::kSync:
      result = ::fdatasync(fd);
      break;
    case IoKind::kPunchHole:
    case IoKind::kZeroRange:
      result = ::fallocate(fd, FallocateMode(operation.kind), offset,
                           static_cast<off_t>(operation.size_bytes));
      break;
  }
  return result < 0 ? -errno : result;
}

}  // namespace pacsvisor
