// What a ring of a disk can do, whoever submits to it: seccomp sees none of a ring's operations.
//
// Threads: the ring's owner, before anything is submitted.
#pragma once

#include <liburing.h>

namespace pacsvisor {

// Enables a ring set up with IORING_SETUP_R_DISABLED for nothing but readv, writev, fsync and
// fallocate on registered files, which may be exchanged (io_uring_register(2),
// IORING_REGISTER_RESTRICTIONS). 0, or -errno.
int RestrictToDiskIo(io_uring& ring);

}  // namespace pacsvisor
