#include "devices/console/port_socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace pacsvisor {

void PortSocket::Start(EventLoop& loop, std::function<void(uint32_t)> on_events) {
  loop_ = &loop;
  on_events_ = std::move(on_events);
}

Status PortSocket::Watch(uint32_t client_events) {
  return connected() ? WatchFd(client_.get(), client_events) : WatchFd(listener_->fd(), EPOLLIN);
}

Status PortSocket::WatchFd(int fd, uint32_t events) {
  if (watched_fd_ == fd) {
    if (events == watched_events_) {
      return {};
    }
    watched_events_ = events;
    return loop_->Modify(fd, events);
  }
  Unwatch();
  const bool is_client = connected();
  TRY(loop_->Add(fd, events,
                 [this, is_client](uint32_t ready) { on_events_(is_client ? ready : 0); }));
  watched_fd_ = fd;
  watched_events_ = events;
  return {};
}

void PortSocket::Unwatch() {
  if (watched_fd_ >= 0) {
    loop_->Remove(std::exchange(watched_fd_, -1));
  }
}

bool PortSocket::Accept() {
  if (!connected()) {
    client_ = listener_->Accept();
    return connected();
  }
  return false;
}

void PortSocket::Disconnect() {
  if (connected()) {
    Unwatch();
    client_.Reset();
  }
}

PortSocket::Transfer PortSocket::Read(std::span<uint8_t> to, size_t& size_bytes) {
  const ssize_t size = ::recv(client_.get(), to.data(), to.size(), MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
    return Transfer::kWouldBlock;
  }
  if (size <= 0) {
    return Transfer::kClosed;
  }
  size_bytes = static_cast<size_t>(size);
  return Transfer::kDone;
}

PortSocket::Transfer PortSocket::Write(std::span<const uint8_t> from, size_t& size_bytes) {
  const ssize_t size = ::send(client_.get(), from.data(), from.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (size < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM)) {
    return Transfer::kWouldBlock;
  }
  if (size < 0) {
    return Transfer::kClosed;
  }
  size_bytes = static_cast<size_t>(size);
  return Transfer::kDone;
}

}  // namespace pacsvisor
