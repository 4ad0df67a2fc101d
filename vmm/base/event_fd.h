// A non-blocking eventfd(2): doorbells (ioeventfd), interrupts (irqfd), wake-ups of event loops.
// Threads: Signal and Consume may be called from any thread.
#pragma once

#include <cstdint>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class EventFd {
 public:
  static Result<EventFd> Create();

  int fd() const { return fd_.get(); }
  void Signal() const;
  // The count since the last call, 0 when none; resets it.
  uint64_t Consume() const;

 private:
  explicit EventFd(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace pacsvisor
