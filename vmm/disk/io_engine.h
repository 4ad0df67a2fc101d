// The host's asynchronous file I/O, one engine a disk. An engine carries out single operations and
// reports what the kernel said, short counts and errors included; transfer.h makes whole requests
// of them. Threads: one at a time (the disk's worker); wait_fd may be waited on by any.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace pacsvisor {

enum class IoKind : uint8_t {
  kRead,       // preadv
  kWrite,      // pwritev; `durable`: with RWF_DSYNC
  kSync,       // fdatasync
  kPunchHole,  // fallocate(PUNCH_HOLE | KEEP_SIZE)
  kZeroRange,  // fallocate(ZERO_RANGE | KEEP_SIZE)
};

// Owned by the caller, untouched by it from Queue until Reap returns it.
struct IoOperation {
  IoKind kind = IoKind::kRead;
  bool durable = false;
  unsigned file = 0;  // as AddFile numbered it
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;  // kPunchHole, kZeroRange
  const iovec* iovecs = nullptr;
  unsigned iovec_count = 0;
  int64_t result = 0;  // bytes transferred, or 0, or -errno
};

class IoEngine {
 public:
  static constexpr unsigned kMaxFiles = 64;

  // Waits for what is in flight: its buffers are free afterwards.
  virtual ~IoEngine() = default;

  virtual std::string_view name() const = 0;
  // Descriptors are borrowed and stay open until RemoveFile or the engine's end.
  virtual Result<unsigned> AddFile(int fd) = 0;
  virtual void RemoveFile(unsigned file) = 0;
  // Readable (level triggered) when Reap would return something.
  virtual int wait_fd() const = 0;

  // Prepares an operation; false when the engine is full: Submit and Reap, then try again.
  [[nodiscard]] virtual bool Queue(IoOperation& operation) = 0;
  // Starts what was prepared, without waiting for it to end.
  virtual void Submit() = 0;
  // Appends what has ended; does not wait.
  virtual void Reap(std::vector<IoOperation*>& done) = 0;
  // Operations queued and not reaped.
  virtual unsigned in_flight() const = 0;
};

enum class IoEngineKind {
  kAuto,     // io_uring; where the host refuses it, threads (said once in the log)
  kUring,    // io_uring or an error
  kThreads,  // preadv/pwritev on a few threads
};

Result<std::unique_ptr<IoEngine>> CreateIoEngine(IoEngineKind kind);

}  // namespace pacsvisor
