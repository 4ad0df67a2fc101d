// The doorbells of an active device in its worker's event loop. The worker waits on descriptors of
// its own (duplicates), so that a transport may end as soon as StartReset has returned.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "devices/virtio/virtio_device.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class DoorbellWatch {
 public:
  struct Doorbell {
    uint16_t queue;
    UniqueFd fd;
  };
  using Doorbells = std::shared_ptr<const std::vector<Doorbell>>;  // passed on by Post

  // `loop` outlives this.
  explicit DoorbellWatch(EventLoop& loop) : loop_(loop) {}

  // Any thread, while the handles are valid.
  static Result<Doorbells> Duplicate(std::span<const VirtioQueueHandle> queues);

  // The loop's thread. `notified` is called with the index of the queue whose doorbell was
  // signalled. Replaces what was watched before.
  Status Watch(Doorbells doorbells, const std::function<void(uint16_t)>& notified);
  void Unwatch();

 private:
  EventLoop& loop_;
  Doorbells doorbells_;
};

}  // namespace pacsvisor
