// A connected Unix socket as cpp-httplib's Stream, with what that lacks: a time limit for a whole
// request instead of for each read, and a budget of bytes.
// Threads: one. Another may shut the socket down to end its waits.
#pragma once

#include <httplib.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "vmm/control/http_engine.h"

namespace pacsvisor {

class HttpStream final : public httplib::Stream {
 public:
  // `leaving` may be set by another thread: no further request is begun then, and nobody is waited
  // for who does not read.
  HttpStream(int fd, const HttpLimits& limits, const std::atomic<bool>& leaving)
      : fd_(fd), limits_(limits), leaving_(leaving) {}

  // Waits for the first byte of the next request and starts its clock and budget. False when the
  // client went away, is to go, or the time is over.
  bool BeginRequest();
  // The head is read: the body may have this many bytes.
  void ExpectBody(size_t size_bytes) { budget_bytes_ = size_bytes; }

  bool is_readable() const override { return true; }
  bool is_writable() const override { return true; }
  ssize_t read(char* data, size_t size_bytes) override;
  ssize_t write(const char* data, size_t size_bytes) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  // No number: cpp-httplib refuses those that select(2) cannot take, and nothing here selects.
  socket_t socket() const override { return -1; }

 private:
  bool Fill(uint64_t deadline_ns);
  bool WaitForReader(uint64_t deadline_ns) const;
  bool WaitFor(short events, uint64_t deadline_ns) const;

  const int fd_;
  const HttpLimits limits_;
  const std::atomic<bool>& leaving_;
  std::array<char, 4096> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t budget_bytes_ = 0;
  uint64_t deadline_ns_ = 0;
};

}  // namespace pacsvisor
