#include "devices/virtio/doorbell_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace pacsvisor {

Result<DoorbellWatch::Doorbells> DoorbellWatch::Duplicate(
    std::span<const VirtioQueueHandle> queues) {
  auto doorbells = std::make_shared<std::vector<Doorbell>>();
  for (const VirtioQueueHandle& handle : queues) {
    UniqueFd fd(::fcntl(handle.doorbell->fd(), F_DUPFD_CLOEXEC, 0));
    if (!fd.valid()) {
      return Error::FromErrno(errno, "cannot duplicate the doorbell of queue {}", handle.index);
    }
    doorbells->push_back({handle.index, std::move(fd)});
  }
  return Doorbells(std::move(doorbells));
}

Status DoorbellWatch::Watch(Doorbells doorbells, const std::function<void(uint16_t)>& notified) {
  Unwatch();
  doorbells_ = std::move(doorbells);
  for (const Doorbell& doorbell : *doorbells_) {
    const auto ring = [fd = doorbell.fd.get(), queue = doorbell.queue, notified](uint32_t) {
      uint64_t count = 0;
      // Resets the eventfd; it does not block, and what it held does not matter.
      if (::read(fd, &count, sizeof(count)) == sizeof(count)) {
        notified(queue);
      }
    };
    TRY(loop_.Add(doorbell.fd.get(), EPOLLIN, ring));
  }
  return {};
}

void DoorbellWatch::Unwatch() {
  if (doorbells_ != nullptr) {
    for (const Doorbell& doorbell : *doorbells_) {
      loop_.Remove(doorbell.fd.get());
    }
    doorbells_ = nullptr;
  }
}

}  // namespace pacsvisor
