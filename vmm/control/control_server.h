// The control API on a machine's Unix socket: one thread accepts, a thread a connection serves, no
// thread stays for idle times.
//
// A client that connects and says nothing, or half a request, keeps nobody out: past
// `max_connections` each newcomer makes the oldest connection end. Its socket is shut for reading,
// so that a request in the machine's hands is still answered.
//
// Threads: Start and the destructor belong to the owner; the machine is called from the
// connections' threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "vmm/base/event_fd.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/base/unique_fd.h"
#include "vmm/control/control_api.h"
#include "vmm/control/http_engine.h"
#include "vmm/control/machine_control.h"

namespace pacsvisor {

struct ControlServerLimits {
  size_t max_connections = 32;
  HttpLimits http;
};

class ControlServer {
 public:
  // The socket at which Start waits for clients: made before privileges are given up. Nothing may
  // be at the path; the socket is left there at the end.
  static Result<UniqueFd> Listen(const std::string& socket_path);
  // `machine` must outlive the server.
  static Result<std::unique_ptr<ControlServer>> Start(UniqueFd listener, MachineControl& machine,
                                                      const ControlServerLimits& limits = {});
  // Returns when every connection has ended; they are cut off, but for requests in the machine's
  // hands.
  ~ControlServer();

 private:
  struct Connection {
    explicit Connection(UniqueFd socket) : fd(std::move(socket)) {}

    const UniqueFd fd;
    std::atomic<bool> leaving = false;  // set under mutex_, read by the connection's thread
  };
  using Connections = std::list<Connection>;

  ControlServer(UniqueFd listener, EventFd wake, MachineControl& machine,
                const ControlServerLimits& limits);
  void AcceptLoop();
  void Admit(UniqueFd fd) EXCLUDES(mutex_);
  void WaitForRoom() EXCLUDES(mutex_);
  void EvictOldest() REQUIRES(mutex_);
  static void Evict(Connection& connection);
  void Serve(Connections::iterator connection) EXCLUDES(mutex_);

  // Constant after construction.
  const UniqueFd listener_;
  const EventFd wake_;
  const ControlServerLimits limits_;
  ControlApi api_;
  HttpEngine engine_;
  std::thread accepting_;
  // Guarded.
  Mutex mutex_;
  std::condition_variable_any changed_;
  Connections connections_ GUARDED_BY(mutex_);  // oldest first
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace pacsvisor
