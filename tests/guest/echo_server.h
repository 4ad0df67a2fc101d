// The host's end of a guest's traffic: takes kEchoBytes a connection and sends them back, one
// connection after another, on a port of the loopback interface (10.0.2.2 for a guest behind the
// user-mode network).
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

inline constexpr size_t kEchoBytes = 256 * 1024;

class EchoServer {
 public:
  EchoServer();
  ~EchoServer();

  uint16_t port() const { return port_; }

 private:
  void Serve();
  void Echo(int connection) const;
  // False: the server ends.
  bool Await(int fd, short events) const;

  UniqueFd listener_;
  uint16_t port_ = 0;
  const EventFd ending_;
  std::thread thread_;
};

}  // namespace pacsvisor
