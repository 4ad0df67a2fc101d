// The host's side of the tests' connections: blocking sockets with a deadline.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "tests/support/fake_virtio_transport.h"
#include "tests/unit/devices/net/packets.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor::net_test {

inline sockaddr_in AddressOf(const std::string& address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  CHECK(::inet_pton(AF_INET, address.c_str(), &result.sin_addr) == 1);
  return result;
}

class HostSocket {
 public:
  explicit HostSocket(int type) : fd_(::socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    const timeval limit = {.tv_sec = kTestDeadline.count(), .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  }

  int fd() const { return fd_.get(); }

  [[nodiscard]] bool Bind(const std::string& address, uint16_t port) {
    const sockaddr_in to = AddressOf(address, port);
    return ::bind(fd_.get(), AsSockaddr(to), sizeof(to)) == 0;
  }
  [[nodiscard]] bool Connect(const std::string& address, uint16_t port) {
    const sockaddr_in to = AddressOf(address, port);
    return ::connect(fd_.get(), AsSockaddr(to), sizeof(to)) == 0;
  }
  [[nodiscard]] bool SendAll(const Bytes& data) {
    for (size_t at = 0; at < data.size();) {
      const ssize_t size = ::send(fd_.get(), &data[at], data.size() - at, MSG_NOSIGNAL);
      if (size <= 0) {
        return false;
      }
      at += static_cast<size_t>(size);
    }
    return true;
  }
  // Less than `count` at the end of the stream or the deadline.
  Bytes ReceiveAll(size_t count) {
    Bytes data(count);
    size_t at = 0;
    while (at < count) {
      const ssize_t size = ::recv(fd_.get(), &data[at], count - at, 0);
      if (size <= 0) {
        break;
      }
      at += static_cast<size_t>(size);
    }
    data.resize(at);
    return data;
  }
  std::optional<Bytes> ReceiveDatagram(sockaddr_in* from = nullptr) {
    Bytes data(65536);
    sockaddr_in sender{};
    socklen_t size = sizeof(sender);
    // A sockaddr_in is a sockaddr of its family.
    const ssize_t bytes = ::recvfrom(fd_.get(), data.data(), data.size(), 0,
                                     reinterpret_cast<sockaddr*>(&sender), &size);
    if (bytes < 0) {
      return std::nullopt;
    }
    if (from != nullptr) {
      *from = sender;
    }
    data.resize(static_cast<size_t>(bytes));
    return data;
  }
  [[nodiscard]] bool SendTo(const sockaddr_in& to, const Bytes& data) {
    return ::sendto(fd_.get(), data.data(), data.size(), 0, AsSockaddr(to), sizeof(to)) ==
           static_cast<ssize_t>(data.size());
  }

 private:
  // A sockaddr_in is a sockaddr of its family.
  static const sockaddr* AsSockaddr(const sockaddr_in& address) {
    return reinterpret_cast<const sockaddr*>(&address);
  }

  const UniqueFd fd_;
};

}  // namespace pacsvisor::net_test
