#include "tests/guest/echo_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "vmm/base/check.h"

namespace pacsvisor {

EchoServer::EchoServer(Kind kind)
    : kind_(kind),
      listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      ending_(EventFd::Create().value()) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  // A sockaddr_in is a sockaddr of its family.
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  CHECK(::bind(listener_.get(), generic, size) == 0 && ::listen(listener_.get(), 16) == 0 &&
        ::getsockname(listener_.get(), generic, &size) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Serve(); });
}

EchoServer::~EchoServer() {
  ending_.Signal();
  thread_.join();
}

bool EchoServer::Await(int fd, short events) const {
  pollfd waiting[] = {{.fd = fd, .events = events, .revents = 0},
                      {.fd = ending_.fd(), .events = POLLIN, .revents = 0}};
  while (::poll(waiting, 2, -1) < 0) {
  }
  return waiting[1].revents == 0;
}

void EchoServer::Serve() {
  while (Await(listener_.get(), POLLIN)) {
    const UniqueFd connection(
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.valid()) {
      kind_ == Kind::kStream ? EchoStream(connection.get()) : Echo(connection.get());
    }
  }
}

// A guest that was stopped leaves a connection that ends early: the next one is served.
void EchoServer::Echo(int connection) const {
  std::vector<uint8_t> bytes(kEchoBytes);
  for (size_t at = 0; at < bytes.size();) {
    if (!Await(connection, POLLIN)) {
      return;
    }
    const ssize_t size = ::recv(connection, &bytes[at], bytes.size() - at, 0);
    if (size <= 0) {
      return;
    }
    at += static_cast<size_t>(size);
  }
  (void)SendAll(connection, bytes);
}

void EchoServer::EchoStream(int connection) const {
  std::vector<uint8_t> bytes(kEchoBytes);
  while (Await(connection, POLLIN)) {
    const ssize_t size = ::recv(connection, bytes.data(), bytes.size(), 0);
    if (size <= 0 || !SendAll(connection, std::span(bytes).first(static_cast<size_t>(size)))) {
      return;
    }
  }
}

bool EchoServer::SendAll(int connection, std::span<const uint8_t> bytes) const {
  for (size_t at = 0; at < bytes.size();) {
    if (!Await(connection, POLLOUT)) {
      return false;
    }
    const ssize_t size = ::send(connection, &bytes[at], bytes.size() - at, MSG_NOSIGNAL);
    if (size <= 0) {
      return false;
    }
    at += static_cast<size_t>(size);
  }
  return true;
}

}  // namespace pacsvisor
