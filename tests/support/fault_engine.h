// An IoEngine on real files that fails as it is told: each operation may be refused with an errno,
// cut short, or held until the test lets it go. What is not disturbed runs at once, in order.
// Threads: the engine's side on one thread; the test's side (below) on any.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/disk/host_io.h"
#include "vmm/disk/io_engine.h"

namespace pacsvisor {

struct Fault {
  enum class Kind { kNone, kError, kShort, kHold };
  Kind kind = Kind::kNone;
  int error_number = 0;
  uint64_t bytes = 0;  // kShort: at most so many are transferred, where any are

  static Fault None() { return {}; }
  static Fault Fail(int error_number) {
    return {.kind = Kind::kError, .error_number = error_number};
  }
  static Fault Short(uint64_t bytes) { return {.kind = Kind::kShort, .bytes = bytes}; }
  static Fault Hold() { return {.kind = Kind::kHold}; }
};

class FaultEngine : public IoEngine {
 public:
  // `count` is that of operations before this one.
  using Policy = std::function<Fault(const IoOperation& operation, uint64_t count)>;

  FaultEngine() : event_(EventFd::Create().value()) {}

  // The test's side.
  void SetPolicy(Policy policy) {
    const MutexLock lock(mutex_);
    policy_ = std::move(policy);
  }
  size_t held() const {
    const MutexLock lock(mutex_);
    return held_.size();
  }
  // Operations held go on, the newest first: the host owes nobody an order.
  void ReleaseAll() {
    {
      const MutexLock lock(mutex_);
      runnable_.insert(runnable_.end(), held_.rbegin(), held_.rend());
      held_.clear();
    }
    event_.Signal();
  }
  uint64_t operation_count() const {
    const MutexLock lock(mutex_);
    return count_;
  }
  // The kinds of all operations, in the order in which they were carried out or refused.
  std::vector<IoOperation> trace() const {
    const MutexLock lock(mutex_);
    return trace_;
  }
  // For tests without end, which would keep it for ever.
  void ForgetTrace() {
    const MutexLock lock(mutex_);
    trace_.clear();
  }

  // IoEngine.
  std::string_view name() const override { return "fault"; }
  Result<unsigned> AddFile(int fd) override {
    files_[next_file_] = fd;
    return next_file_++;
  }
  void RemoveFile(unsigned file) override { files_.erase(file); }
  int wait_fd() const override { return event_.fd(); }
  bool Queue(IoOperation& operation) override {
    prepared_.push_back(&operation);
    ++in_flight_;
    return true;
  }
  void Submit() override {
    for (IoOperation* operation : std::exchange(prepared_, {})) {
      const MutexLock lock(mutex_);
      const Fault fault = policy_ ? policy_(*operation, count_) : Fault::None();
      ++count_;
      if (fault.kind == Fault::Kind::kHold) {
        held_.push_back(operation);
        continue;
      }
      Run(*operation, fault);
      done_.push_back(operation);
      event_.Signal();
    }
  }
  void Reap(std::vector<IoOperation*>& done) override {
    event_.Consume();
    const MutexLock lock(mutex_);
    for (IoOperation* operation : std::exchange(runnable_, {})) {
      Run(*operation, Fault::None());
      done_.push_back(operation);
    }
    in_flight_ -= static_cast<unsigned>(done_.size());
    done.insert(done.end(), done_.begin(), done_.end());
    done_.clear();
  }
  unsigned in_flight() const override { return in_flight_; }

 private:
  void Run(IoOperation& operation, const Fault& fault) REQUIRES(mutex_) {
    trace_.push_back(operation);
    if (fault.kind == Fault::Kind::kError) {
      operation.result = -fault.error_number;
      return;
    }
    IoOperation cut = operation;
    std::vector<iovec> iovecs;
    const bool data = operation.kind == IoKind::kRead || operation.kind == IoKind::kWrite;
    if (fault.kind == Fault::Kind::kShort && data) {
      uint64_t left = fault.bytes;
      for (unsigned i = 0; i < operation.iovec_count && left > 0; ++i) {
        iovecs.push_back(
            {operation.iovecs[i].iov_base, std::min<uint64_t>(left, operation.iovecs[i].iov_len)});
        left -= iovecs.back().iov_len;
      }
      cut.iovecs = iovecs.data();
      cut.iovec_count = static_cast<unsigned>(iovecs.size());
    }
    operation.result = RunBlocking(files_.at(operation.file), cut);
  }

  const EventFd event_;
  // Owned by the engine's thread.
  std::map<unsigned, int> files_;
  unsigned next_file_ = 0;
  std::vector<IoOperation*> prepared_;
  unsigned in_flight_ = 0;
  // Guarded.
  mutable Mutex mutex_;
  Policy policy_ GUARDED_BY(mutex_);
  uint64_t count_ GUARDED_BY(mutex_) = 0;
  std::vector<IoOperation*> held_ GUARDED_BY(mutex_);
  std::vector<IoOperation*> runnable_ GUARDED_BY(mutex_);
  std::vector<IoOperation*> done_ GUARDED_BY(mutex_);
  std::vector<IoOperation> trace_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
