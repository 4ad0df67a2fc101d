// One IoOperation by plain system calls.
#pragma once

#include "vmm/disk/io_engine.h"

namespace pacsvisor {

// Blocks until the host has done it; returns what IoOperation::result holds. Any thread.
int64_t RunBlocking(int fd, const IoOperation& operation);

// The mode of fallocate(2) for kPunchHole and kZeroRange.
int FallocateMode(IoKind kind);

}  // namespace pacsvisor
