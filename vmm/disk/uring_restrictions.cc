#include "vmm/disk/uring_restrictions.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace pacsvisor {
namespace {

// liburing 2.3 declares calls for these two, and its library does not export them.
int Register(const io_uring& ring, unsigned operation, const void* argument, unsigned count) {
  const long result = syscall(SYS_io_uring_register, ring.ring_fd, operation, argument, count);
  return result < 0 ? -errno : 0;
}

}  // namespace

int RestrictToDiskIo(io_uring& ring) {
  std::vector<io_uring_restriction> restrictions;
  for (const io_uring_op operation :
       {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE}) {
    io_uring_restriction restriction = {};
    restriction.opcode = IORING_RESTRICTION_SQE_OP;
    restriction.sqe_op = static_cast<uint8_t>(operation);
    restrictions.push_back(restriction);
  }
  // Registered files only: no descriptor of this process by its number.
  for (const uint16_t which :
       {IORING_RESTRICTION_SQE_FLAGS_REQUIRED, IORING_RESTRICTION_SQE_FLAGS_ALLOWED}) {
    io_uring_restriction restriction = {};
    restriction.opcode = which;
    restriction.sqe_flags = IOSQE_FIXED_FILE;
    restrictions.push_back(restriction);
  }
  io_uring_restriction restriction = {};
  restriction.opcode = IORING_RESTRICTION_REGISTER_OP;
  restriction.register_op = IORING_REGISTER_FILES_UPDATE;
  restrictions.push_back(restriction);
  const int result = Register(ring, IORING_REGISTER_RESTRICTIONS, restrictions.data(),
                              static_cast<unsigned>(restrictions.size()));
  return result < 0 ? result : Register(ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
}

}  // namespace pacsvisor
