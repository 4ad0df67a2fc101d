// File I/O by io_uring (liburing): files are registered, submission does not wait, the ring's own
// descriptor tells of completions. The ring can do nothing but what IoKind names, on registered
// files (the host's restrictions), since seccomp does not see what goes through it. Guest memory is
// never registered as fixed buffers: page-table based dirty tracking would not see the writes.
#pragma once

#include <liburing.h>

#include <array>
#include <memory>
#include <vector>

#include "vmm/disk/io_engine.h"

namespace pacsvisor {

class UringEngine : public IoEngine {
 public:
  static constexpr unsigned kSubmissionEntries = 256;
  static constexpr unsigned kCompletionEntries = 1024;  // bounds what is in flight

  // kUnsupported when the host refuses io_uring (kernel, seccomp, kernel.io_uring_disabled,
  // memlock).
  static Result<std::unique_ptr<IoEngine>> Create();
  ~UringEngine() override;

  std::string_view name() const override { return "io_uring"; }
  Result<unsigned> AddFile(int fd) override;
  void RemoveFile(unsigned file) override;
  int wait_fd() const override { return ring_.ring_fd; }
  [[nodiscard]] bool Queue(IoOperation& operation) override;
  void Submit() override;
  void Reap(std::vector<IoOperation*>& done) override;
  unsigned in_flight() const override { return in_flight_; }

 private:
  UringEngine() = default;

  io_uring ring_{};
  bool ring_open_ = false;
  std::array<bool, kMaxFiles> file_used_{};
  unsigned in_flight_ = 0;
};

}  // namespace pacsvisor
