#include "devices/console/port_socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace pacsvisor {

PortSocket::~PortSocket() {
  if (line_ != nullptr) {
    line_->OnNews(nullptr);
  }
}

void PortSocket::Start(EventLoop& loop, std::function<void(uint32_t)> on_events) {
  loop_ = &loop;
  on_events_ = std::move(on_events);
  if (line_ != nullptr) {
    line_->OnNews([this] { loop_->Post([this] { on_events_(0); }); });
  }
}

void PortSocket::SetListened(bool listened) {
  if (line_ != nullptr) {
    line_->SetListened(listened);
  }
}

Status PortSocket::Watch(uint32_t client_events) {
  if (on_line_) {
    Unwatch();  // the line wakes by itself
    return {};
  }
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
  const bool line_open = line_ != nullptr && line_->open();
  if (line_open != on_line_) {
    Disconnect();
    on_line_ = line_open;
    if (on_line_) {
      return true;
    }
  }
  if (!connected()) {
    client_ = listener_->Accept();
    return connected();
  }
  return false;
}

void PortSocket::Disconnect() {
  if (client_.valid()) {
    Unwatch();
    client_.Reset();
  }
}

PortSocket::Transfer PortSocket::Read(std::span<uint8_t> to, size_t& size_bytes) {
  if (on_line_) {
    size_bytes = line_->Take(to);
    return size_bytes == 0 ? Transfer::kWouldBlock : Transfer::kDone;
  }
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
  if (on_line_) {
    size_bytes = line_->Give(from);
    return size_bytes == 0 ? Transfer::kWouldBlock : Transfer::kDone;
  }
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
