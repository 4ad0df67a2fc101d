// The host's end of a guest's traffic, one connection after another, on a port of the loopback
// interface (10.0.2.2 for a guest behind the user-mode network): takes kEchoBytes a connection and
// sends them back, or sends back whatever comes until the guest ends the connection.
#pragma once

#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

inline constexpr size_t kEchoBytes = 256 * 1024;

class EchoServer {
 public:
  enum class Kind { kBatch, kStream };

  explicit EchoServer(Kind kind = Kind::kBatch);
  ~EchoServer();

  uint16_t port() const { return port_; }

 private:
  void Serve();
  void Echo(int connection) const;
  void EchoStream(int connection) const;
  bool SendAll(int connection, std::span<const uint8_t> bytes) const;
  // False: the server ends.
  bool Await(int fd, short events) const;

  const Kind kind_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  const EventFd ending_;
  std::thread thread_;
};

}  // namespace pacsvisor
