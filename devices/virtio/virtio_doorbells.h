// The doorbells of a virtio PCI function: an eventfd a queue, bound to the guest-physical address
// of its notification register (virtio 1.2, 4.1.4.4) wherever the guest moves the BAR.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "devices/virtio/virtio_pci_transport.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/log.h"

namespace pacsvisor {

// Threads: Move one at a time, under the transport's lock; Ring any.
class VirtioDoorbells {
 public:
  static Result<std::vector<EventFd>> CreateEvents(size_t count);

  VirtioDoorbells(std::string name, DoorbellRegistrar& registrar, std::vector<EventFd> events,
                  GuestFaultCounters& faults)
      : name_(std::move(name)),
        registrar_(registrar),
        events_(std::move(events)),
        faults_(faults) {}
  ~VirtioDoorbells() { Move(std::nullopt); }

  std::span<const EventFd> events() const { return events_; }
  // The notify area starts at `address` from now on, or (nullopt) is nowhere. A doorbell that the
  // host does not bind is served by MMIO exits.
  void Move(std::optional<GuestAddress> address);
  // A notification that came as an MMIO exit, `offset` in the notify area.
  void Ring(uint64_t offset) const;

 private:
  struct Bound {
    GuestAddress address;
    size_t index;
  };

  const std::string name_;
  DoorbellRegistrar& registrar_;
  const std::vector<EventFd> events_;
  GuestFaultCounters& faults_;
  std::vector<Bound> bound_;
  RateLimitedLog log_;
};

}  // namespace pacsvisor
