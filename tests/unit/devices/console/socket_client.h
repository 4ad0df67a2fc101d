// A client of a port's socket: blocking, with a deadline.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "tests/support/fake_virtio_transport.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor::console_test {

class SocketClient {
 public:
  explicit SocketClient(const std::string& path)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit = {.tv_sec = kTestDeadline.count(), .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    CHECK(path.size() < sizeof(address.sun_path));
    std::copy(path.begin(), path.end(), address.sun_path);
    // A sockaddr_un is a sockaddr of its family.
    connected_ =
        ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }

  bool connected() const { return connected_; }
  [[nodiscard]] bool Write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t size = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (size <= 0) {
        return false;
      }
      text.remove_prefix(static_cast<size_t>(size));
    }
    return true;
  }
  // Less than `count` at the end of the stream or the deadline.
  std::string Read(size_t count) {
    std::string text(count, '\0');
    size_t at = 0;
    while (at < count) {
      const ssize_t size = ::recv(fd_.get(), &text[at], count - at, 0);
      if (size <= 0) {
        break;
      }
      at += static_cast<size_t>(size);
    }
    text.resize(at);
    return text;
  }
  bool SomethingToRead() const {
    pollfd poll = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&poll, 1, 0) == 1;
  }

 private:
  const UniqueFd fd_;
  bool connected_ = false;
};

}  // namespace pacsvisor::console_test
