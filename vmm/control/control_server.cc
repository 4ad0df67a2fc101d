#include "vmm/control/control_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/control/unix_socket.h"

namespace pacsvisor {
namespace {

constexpr int kBacklog = 128;
// Connections that were told to end and have not yet: for them there is this much room more.
constexpr size_t kLeavingFactor = 2;
constexpr std::chrono::milliseconds kRetryAccept(50);

}  // namespace

Result<UniqueFd> ControlServer::Listen(const std::string& socket_path) {
  return ListenOnUnixSocket(socket_path, kBacklog);
}

Result<std::unique_ptr<ControlServer>> ControlServer::Start(UniqueFd listener,
                                                            MachineControl& machine,
                                                            const ControlServerLimits& limits) {
  EventFd wake = TRY(EventFd::Create());
  std::unique_ptr<ControlServer> server(
      new ControlServer(std::move(listener), std::move(wake), machine, limits));
  ControlServer* self = server.get();
  server->accepting_ =
      TRY(StartThread(ThreadKind::kControl, "control", [self] { self->AcceptLoop(); }));
  return server;
}

ControlServer::ControlServer(UniqueFd listener, EventFd wake, MachineControl& machine,
                             const ControlServerLimits& limits)
    : listener_(std::move(listener)),
      wake_(std::move(wake)),
      limits_(limits),
      api_(machine),
      engine_(api_) {}

ControlServer::~ControlServer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  wake_.Signal();
  if (accepting_.joinable()) {
    accepting_.join();
  }
  mutex_.lock();
  for (Connection& connection : connections_) {
    Evict(connection);
  }
  while (!connections_.empty()) {
    changed_.wait(mutex_);
  }
  mutex_.unlock();
}

void ControlServer::AcceptLoop() {
  while (true) {
    pollfd entries[] = {{.fd = listener_.get(), .events = POLLIN, .revents = 0},
                        {.fd = wake_.fd(), .events = POLLIN, .revents = 0}};
    if (poll(entries, 2, -1) < 0) {
      CHECK(errno == EINTR, "poll: {}", errno);
      continue;
    }
    if (entries[1].revents != 0) {
      return;
    }
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.valid()) {
      Admit(std::move(fd));
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
      WaitForRoom();
    }
  }
}

// No descriptor or memory for another connection: the oldest gives way, and in any case the next
// try waits a little, since the one in the queue keeps poll from waiting.
void ControlServer::WaitForRoom() {
  MutexLock lock(mutex_);
  EvictOldest();
  changed_.wait_for(mutex_, kRetryAccept);
}

void ControlServer::Admit(UniqueFd fd) {
  Connections::iterator connection;
  {
    MutexLock lock(mutex_);
    const size_t staying =
        static_cast<size_t>(std::count_if(connections_.begin(), connections_.end(),
                                          [](const Connection& other) { return !other.leaving; }));
    if (staying >= limits_.max_connections) {
      EvictOldest();
    }
    while (connections_.size() >= kLeavingFactor * limits_.max_connections && !stopping_) {
      changed_.wait(mutex_);
    }
    if (stopping_) {
      return;
    }
    connection = connections_.emplace(connections_.end(), std::move(fd));
  }
  Result<std::thread> thread = StartThread(ThreadKind::kControl, "control-client",
                                           [this, connection] { Serve(connection); });
  if (thread.ok()) {
    thread->detach();  // the destructor waits for the connection to leave the list
    return;
  }
  Log(LogLevel::kWarning, "a control connection was dropped: {}", thread.error().message());
  MutexLock lock(mutex_);
  connections_.erase(connection);
}

void ControlServer::EvictOldest() {
  const auto oldest =
      std::find_if(connections_.begin(), connections_.end(),
                   [](const Connection& connection) { return !connection.leaving; });
  if (oldest != connections_.end()) {
    Evict(*oldest);
  }
}

void ControlServer::Evict(Connection& connection) {
  connection.leaving = true;
  shutdown(connection.fd.get(), SHUT_RD);
}

void ControlServer::Serve(Connections::iterator connection) {
  engine_.Serve(connection->fd.get(), limits_.http, connection->leaving);
  MutexLock lock(mutex_);
  connections_.erase(connection);  // closes: under the lock, so that no other's number is shut down
  changed_.notify_all();
}

}  // namespace pacsvisor
