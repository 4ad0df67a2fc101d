// HTTP/1.1 for the control API: cpp-httplib parses and writes; what it would do beyond that
// (ranges, compression, multipart bodies, bodies without a length) is refused or taken out before
// it is done.
//
// Threads: Serve from any, several at the same time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "vmm/control/control_api.h"

namespace pacsvisor {

struct HttpLimits {
  uint32_t idle_timeout_ms = 10'000;     // until a request's first byte
  uint32_t request_timeout_ms = 5'000;   // from there to its last byte
  uint32_t response_timeout_ms = 1'000;  // for the socket to take what is written in one go
  size_t head_limit_bytes = 16ul << 10;  // request line and headers
  uint32_t max_requests = 100;           // on one connection
};

class HttpEngine {
 public:
  explicit HttpEngine(ControlApi& api);
  ~HttpEngine();

  // Serves a connected socket until its client is done, is cut off, or breaks a rule, or until
  // `leaving` is set (by another thread, which then shuts the socket for reading). Does not close.
  void Serve(int fd, const HttpLimits& limits, const std::atomic<bool>& leaving);

 private:
  class Server;

  const std::unique_ptr<Server> server_;
};

}  // namespace pacsvisor
