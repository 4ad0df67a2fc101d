// The host's end of a console port: a Unix socket at a path, one client at a time. Further clients
// wait until it has left. Nothing here blocks.
//
// The process itself may speak by a line of its own, and comes first: while that is open, it is the
// client. Who was connected is sent away, so that no conversation is mixed with another, and those
// that come wait in the socket as ever.
// Threads: the loop's (before it runs: the owner's).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "devices/console/unix_listener.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/local_line.h"
#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class PortSocket {
 public:
  enum class Transfer {
    kDone,
    kWouldBlock,
    kClosed,  // the client has left, or does not take anything any more
  };

  explicit PortSocket(std::shared_ptr<const UnixListener> listener,
                      std::shared_ptr<LocalLine> line = nullptr)
      : listener_(std::move(listener)), line_(std::move(line)) {}
  PortSocket(PortSocket&&) = default;
  PortSocket& operator=(PortSocket&&) = delete;
  ~PortSocket();

  // `on_events` gets epoll's events of the client, or 0 when there may be one to accept. Both
  // outlive this, which stays where it is from here on.
  void Start(EventLoop& loop, std::function<void(uint32_t)> on_events);
  // Waits for a client, or for `client_events` of the one there is. A client that hangs up is
  // reported whatever is asked.
  Status Watch(uint32_t client_events);
  void Unwatch();

  bool connected() const { return on_line_ || client_.valid(); }
  // Whether the guest has the port open.
  void SetListened(bool listened);
  // True when a client came.
  bool Accept();
  void Disconnect();
  // kDone: `size_bytes` says how much.
  Transfer Read(std::span<uint8_t> to, size_t& size_bytes);
  Transfer Write(std::span<const uint8_t> from, size_t& size_bytes);

 private:
  Status WatchFd(int fd, uint32_t events);

  std::shared_ptr<const UnixListener> listener_;
  std::shared_ptr<LocalLine> line_;  // null: none
  bool on_line_ = false;             // the line is the client
  UniqueFd client_;
  EventLoop* loop_ = nullptr;
  std::function<void(uint32_t)> on_events_;
  int watched_fd_ = -1;
  uint32_t watched_events_ = 0;
};

}  // namespace pacsvisor
