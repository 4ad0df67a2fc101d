#include "devices/net/slirp_watches.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "vmm/base/log.h"

namespace pacsvisor {
namespace {

uint32_t ToEpoll(int events) {
  return ((events & SLIRP_POLL_IN) != 0 ? EPOLLIN : 0u) |
         ((events & SLIRP_POLL_OUT) != 0 ? EPOLLOUT : 0u) |
         ((events & SLIRP_POLL_PRI) != 0 ? EPOLLPRI : 0u);
}

int FromEpoll(uint32_t events) {
  return ((events & EPOLLIN) != 0 ? SLIRP_POLL_IN : 0) |
         ((events & EPOLLOUT) != 0 ? SLIRP_POLL_OUT : 0) |
         ((events & EPOLLPRI) != 0 ? SLIRP_POLL_PRI : 0) |
         ((events & EPOLLERR) != 0 ? SLIRP_POLL_ERR : 0) |
         ((events & EPOLLHUP) != 0 ? SLIRP_POLL_HUP : 0);
}

}  // namespace

SlirpWatches::Kind SlirpWatches::KindOf(int fd) {
  int listens = 0;
  socklen_t size = sizeof(listens);
  const int asked = ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
  return asked == 0 && listens != 0 ? Kind::kListener : Kind::kConnection;
}

bool SlirpWatches::MayWatch(int fd) {
  Kind& kind = sockets_[fd];
  kind = kind == Kind::kUnknown ? KindOf(fd) : kind;
  if (kind != Kind::kListener || sockets_.size() < kMaxSockets) {
    return true;
  }
  log_.Log(LogLevel::kWarning,
           "user-mode network: {} connections are open: new ones from outside wait until some of "
           "them end",
           sockets_.size());
  return false;
}

int SlirpWatches::OnAdd(int fd, int events, void* opaque) {
  auto& asked = static_cast<SlirpWatches*>(opaque)->asked_;
  asked.emplace_back(fd, ToEpoll(events));
  return static_cast<int>(asked.size()) - 1;
}

int SlirpWatches::OnAsk(int index, void* opaque) {
  auto& self = *static_cast<SlirpWatches*>(opaque);
  if (index < 0 || static_cast<size_t>(index) >= self.asked_.size()) {
    return 0;
  }
  const auto found = self.watches_.find(self.asked_[static_cast<size_t>(index)].first);
  return found == self.watches_.end() ? 0 : FromEpoll(found->second.ready);
}

void SlirpWatches::Fill(EventLoop& loop, Slirp& slirp, uint32_t& timeout_ms) {
  asked_.clear();
  slirp_pollfds_fill(&slirp, &timeout_ms, OnAdd, this);
  for (auto& [fd, watch] : watches_) {
    watch.wanted = false;
    watch.ready = 0;
  }
  for (const auto& [fd, events] : asked_) {
    if (MayWatch(fd)) {
      Set(loop, fd, events);
    }
  }
  for (auto it = watches_.begin(); it != watches_.end();) {
    if (it->second.wanted) {
      ++it;
    } else {
      loop.Remove(it->first);
      it = watches_.erase(it);
    }
  }
}

void SlirpWatches::Set(EventLoop& loop, int fd, uint32_t events) {
  const auto found = watches_.find(fd);
  Status done;
  if (found == watches_.end()) {
    done = loop.Add(fd, events, [this, fd](uint32_t ready) {
      if (const auto watch = watches_.find(fd); watch != watches_.end()) {
        watch->second.ready |= ready;
      }
    });
  } else if (found->second.events != events) {
    done = loop.Modify(fd, events);
  }
  if (!done.ok()) {
    // No room for one more descriptor in the kernel: this connection stands still until there is.
    log_.Log(LogLevel::kWarning, "user-mode network: {}", done.error().message());
    return;
  }
  Watch& watch = watches_[fd];
  watch.events = events;
  watch.wanted = true;
}

void SlirpWatches::Report(Slirp& slirp) { slirp_pollfds_poll(&slirp, 0, OnAsk, this); }

void SlirpWatches::Clear(EventLoop& loop) {
  asked_.clear();
  for (const auto& [fd, watch] : watches_) {
    loop.Remove(fd);
  }
  watches_.clear();
}

void SlirpWatches::Forget(EventLoop* loop, int fd) {
  sockets_.erase(fd);
  if (watches_.erase(fd) != 0 && loop != nullptr) {
    loop->Remove(fd);
  }
}

}  // namespace pacsvisor
