// The user's wish to end a command that takes its time: SIGINT, SIGTERM and SIGHUP, caught while an
// object lives, so that the command can clean up behind itself. Threads: one, the main thread,
// before any other is started; one object at a time.
#pragma once

#include <csignal>
#include <cstdint>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class Interrupts {
 public:
  static Result<Interrupts> Catch();
  ~Interrupts();  // gives the signals back; one that came late still counts
  Interrupts(Interrupts&& other) noexcept;
  Interrupts& operator=(Interrupts&&) = delete;

  // Whether one came since the last call (or in this one's `timeout_ms`).
  bool Take(uint32_t timeout_ms = 0);
  // Readable when one came: for poll(2) beside other things.
  int fd() const { return fd_.get(); }

  // In a child process, before exec: the signals are as they were.
  void Restore() const;

 private:
  Interrupts(UniqueFd fd, const sigset_t& before) : fd_(std::move(fd)), before_(before) {}

  UniqueFd fd_;  // signalfd(2)
  sigset_t before_;
};

}  // namespace pacsvisor
