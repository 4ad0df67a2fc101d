#include "vmm/control/http_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
constexpr uint32_t kSliceMs = 50;

uint64_t After(uint32_t timeout_ms) { return MonotonicNs() + timeout_ms * kNsPerMs; }

}  // namespace

bool HttpStream::BeginRequest() {
  if (leaving_ || (begin_ == end_ && !Fill(After(limits_.idle_timeout_ms))) || leaving_) {
    return false;
  }
  deadline_ns_ = After(limits_.request_timeout_ms);
  budget_bytes_ = limits_.head_limit_bytes;
  return true;
}

ssize_t HttpStream::read(char* data, size_t size_bytes) {
  if (budget_bytes_ == 0) {
    return -1;
  }
  if (begin_ == end_ && !Fill(deadline_ns_)) {
    return -1;
  }
  const size_t count = std::min({size_bytes, end_ - begin_, budget_bytes_});
  std::memcpy(data, &buffer_[begin_], count);
  begin_ += count;
  budget_bytes_ -= count;
  return static_cast<ssize_t>(count);
}

ssize_t HttpStream::write(const char* data, size_t size_bytes) {
  const uint64_t deadline_ns = After(limits_.response_timeout_ms);
  size_t sent = 0;
  while (sent < size_bytes) {
    const ssize_t count = send(fd_, data + sent, size_bytes - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      if (!WaitForReader(deadline_ns)) {
        return -1;
      }
    } else if (errno != EINTR) {
      return -1;
    }
  }
  return static_cast<ssize_t>(size_bytes);
}

bool HttpStream::Fill(uint64_t deadline_ns) {
  while (WaitFor(POLLIN, deadline_ns)) {
    const ssize_t count = recv(fd_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (count > 0) {
      begin_ = 0;
      end_ = static_cast<size_t>(count);
      return true;
    }
    if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
      return false;
    }
  }
  return false;
}

// In short slices: the socket that is shut for reading wakes those who read, not those who write.
bool HttpStream::WaitForReader(uint64_t deadline_ns) const {
  while (!leaving_ && MonotonicNs() < deadline_ns) {
    if (WaitFor(POLLOUT, std::min(deadline_ns, After(kSliceMs)))) {
      return true;
    }
  }
  return false;
}

bool HttpStream::WaitFor(short events, uint64_t deadline_ns) const {
  while (true) {
    const uint64_t now_ns = MonotonicNs();
    if (now_ns >= deadline_ns) {
      return false;
    }
    pollfd entry = {.fd = fd_, .events = events, .revents = 0};
    const int count = poll(&entry, 1, static_cast<int>((deadline_ns - now_ns) / kNsPerMs + 1));
    if (count > 0) {
      return true;
    }
    if (count < 0 && errno != EINTR) {
      return false;
    }
  }
}

void HttpStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  ip = "unix";
  port = 0;
}

void HttpStream::get_local_ip_and_port(std::string& ip, int& port) const {
  ip = "unix";
  port = 0;
}

}  // namespace pacsvisor
