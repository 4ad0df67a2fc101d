#include "vmm/disk/uring_engine.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "vmm/disk/host_io.h"
#include "vmm/disk/uring_restrictions.h"

namespace pacsvisor {
namespace {

int OpenRing(io_uring& ring, unsigned flags) {
  io_uring_params parameters{};
  parameters.flags = flags | IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
  parameters.cq_entries = UringEngine::kCompletionEntries;
  return io_uring_queue_init_params(UringEngine::kSubmissionEntries, &ring, &parameters);
}

}  // namespace

Result<std::unique_ptr<IoEngine>> UringEngine::Create() {
  std::unique_ptr<UringEngine> engine(new UringEngine());
  // COOP_TASKRUN (5.19): completions do not interrupt the worker while it runs.
  int result = OpenRing(engine->ring_, IORING_SETUP_COOP_TASKRUN);
  if (result == -EINVAL) {
    result = OpenRing(engine->ring_, 0);
  }
  if (result < 0) {
    return Error::FromErrno(
        -result,
        "this host refuses io_uring (kernel.io_uring_disabled, a seccomp filter "
        "or a memory lock limit)");
  }
  engine->ring_open_ = true;
  std::array<int, kMaxFiles> none;
  none.fill(-1);
  result = io_uring_register_files(&engine->ring_, none.data(), kMaxFiles);
  if (result < 0) {
    return Error::FromErrno(-result, "this host's io_uring does not register files");
  }
  result = RestrictToDiskIo(engine->ring_);
  if (result < 0) {
    return Error::FromErrno(-result, "this host's io_uring takes no restrictions");
  }
  return std::unique_ptr<IoEngine>(std::move(engine));
}

UringEngine::~UringEngine() {
  if (!ring_open_) {
    return;
  }
  std::vector<IoOperation*> done;
  while (in_flight_ > 0) {
    Submit();
    io_uring_cqe* cqe = nullptr;
    const int result = io_uring_wait_cqe(&ring_, &cqe);
    CHECK(result == 0 || result == -EINTR || result == -EAGAIN, "io_uring wait: errno {}", -result);
    Reap(done);
  }
  io_uring_queue_exit(&ring_);
}

Result<unsigned> UringEngine::AddFile(int fd) {
  const auto free = std::find(file_used_.begin(), file_used_.end(), false);
  if (free == file_used_.end()) {
    return Error::Make(ErrorCode::kNoSpace, "an I/O engine serves at most {} files", kMaxFiles);
  }
  const auto file = static_cast<unsigned>(free - file_used_.begin());
  const int result = io_uring_register_files_update(&ring_, file, &fd, 1);
  if (result < 0) {
    return Error::FromErrno(-result, "cannot register descriptor {} with io_uring", fd);
  }
  *free = true;
  return file;
}

void UringEngine::RemoveFile(unsigned file) {
  CHECK(file < kMaxFiles && file_used_[file], "file {}", file);
  int none = -1;
  const int result = io_uring_register_files_update(&ring_, file, &none, 1);
  CHECK(result == 1, "io_uring unregister: errno {}", -result);
  file_used_[file] = false;
}

bool UringEngine::Queue(IoOperation& operation) {
  if (in_flight_ == kCompletionEntries) {
    return false;
  }
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) {
    return false;
  }
  const int file = static_cast<int>(operation.file);
  switch (operation.kind) {
    case IoKind::kRead:
      io_uring_prep_readv(sqe, file, operation.iovecs, operation.iovec_count,
                          operation.offset_bytes);
      break;
    case IoKind::kWrite:
      io_uring_prep_writev2(sqe, file, operation.iovecs, operation.iovec_count,
                            operation.offset_bytes, operation.durable ? RWF_DSYNC : 0);
      break;
    case IoKind::kSync:
      io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
      break;
    case IoKind::kPunchHole:
    case IoKind::kZeroRange:
      io_uring_prep_fallocate(sqe, file, FallocateMode(operation.kind),
                              static_cast<off_t>(operation.offset_bytes),
                              static_cast<off_t>(operation.size_bytes));
      break;
  }
  io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data(sqe, &operation);
  ++in_flight_;
  return true;
}

void UringEngine::Submit() {
  while (io_uring_sq_ready(&ring_) > 0) {
    const int result = io_uring_submit(&ring_);
    if (result > 0 || result == -EINTR) {
      continue;
    }
    CHECK(result == 0 || result == -EAGAIN || result == -EBUSY || result == -ENOMEM,
          "io_uring submit: errno {}", -result);
    if (in_flight_ > io_uring_sq_ready(&ring_)) {
      return;  // a completion will call again, with more room
    }
    // The kernel is short of memory and owes nothing that would wake the worker.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void UringEngine::Reap(std::vector<IoOperation*>& done) {
  std::array<io_uring_cqe*, 64> cqes;
  while (true) {
    const unsigned count =
        io_uring_peek_batch_cqe(&ring_, cqes.data(), static_cast<unsigned>(cqes.size()));
    for (unsigned i = 0; i < count; ++i) {
      auto* operation = static_cast<IoOperation*>(io_uring_cqe_get_data(cqes[i]));
      operation->result = cqes[i]->res;
      done.push_back(operation);
    }
    io_uring_cq_advance(&ring_, count);
    in_flight_ -= count;
    if (count < cqes.size()) {
      return;
    }
  }
}

}  // namespace pacsvisor
