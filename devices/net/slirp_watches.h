// The descriptors that libslirp waits for, kept in an event loop from one wait to the next: only
// what changes costs a system call. Threads: the loop's.
#pragma once

#include <libslirp.h>

#include <cstdint>
#include <map>
#include <vector>

#include "vmm/base/event_loop.h"

namespace pacsvisor {

class SlirpWatches {
 public:
  // `slirp` is asked what it waits for, and the loop set to it. Lowers `timeout_ms` to when
  // libslirp wants to be called at the latest.
  void Fill(EventLoop& loop, Slirp& slirp, uint32_t& timeout_ms);
  // Tells libslirp what became ready since Fill.
  void Report(Slirp& slirp);
  // Waits for none.
  void Clear(EventLoop& loop);
  // libslirp is about to close `fd`.
  void Forget(EventLoop* loop, int fd);

 private:
  struct Watch {
    uint32_t events = 0;  // epoll's, as the loop has them
    uint32_t ready = 0;   // epoll's, since the last Fill
    bool wanted = false;  // by the present Fill
  };
  static int OnAdd(int fd, int events, void* opaque);
  static int OnAsk(int index, void* opaque);
  void Set(EventLoop& loop, int fd, uint32_t events);

  std::map<int, Watch> watches_;
  std::vector<std::pair<int, uint32_t>> asked_;  // descriptor and events, by libslirp's index
};

}  // namespace pacsvisor
