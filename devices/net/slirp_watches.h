// The descriptors that libslirp waits for, kept in an event loop from one wait to the next: only
// what changes costs a system call. Threads: the loop's.
#pragma once

#include <libslirp.h>

#include <cstdint>
#include <map>
#include <vector>

#include "vmm/base/event_loop.h"
#include "vmm/base/log.h"

namespace pacsvisor {

class SlirpWatches {
 public:
  // With so many open, connections from outside wait in the backlogs of the forwards' sockets; what
  // the guest opens is the back end's to refuse.
  static constexpr size_t kMaxSockets = 512;

  // `slirp` is asked what it waits for, and the loop set to it. Lowers `timeout_ms` to when
  // libslirp wants to be called at the latest.
  void Fill(EventLoop& loop, Slirp& slirp, uint32_t& timeout_ms);
  // Tells libslirp what became ready since Fill.
  void Report(Slirp& slirp);
  // Waits for none.
  void Clear(EventLoop& loop);
  // libslirp has opened `fd`.
  void Note(int fd) { sockets_.try_emplace(fd, Kind::kUnknown); }
  size_t socket_count() const { return sockets_.size(); }
  // libslirp is about to close `fd`.
  void Forget(EventLoop* loop, int fd);

 private:
  struct Watch {
    uint32_t events = 0;  // epoll's, as the loop has them
    uint32_t ready = 0;   // epoll's, since the last Fill
    bool wanted = false;  // by the present Fill
  };
  enum class Kind { kUnknown, kListener, kConnection };
  static Kind KindOf(int fd);
  bool MayWatch(int fd);
  static int OnAdd(int fd, int events, void* opaque);
  static int OnAsk(int index, void* opaque);
  void Set(EventLoop& loop, int fd, uint32_t events);

  std::map<int, Watch> watches_;
  std::vector<std::pair<int, uint32_t>> asked_;  // descriptor and events, by libslirp's index
  std::map<int, Kind> sockets_;                  // open, as far as libslirp has told
  RateLimitedLog log_;
};

}  // namespace pacsvisor
