#include "devices/virtio/virtio_doorbells.h"

namespace pacsvisor {

Result<std::vector<EventFd>> VirtioDoorbells::CreateEvents(size_t count) {
  std::vector<EventFd> events;
  for (size_t i = 0; i < count; ++i) {
    events.push_back(TRY(EventFd::Create()));
  }
  return events;
}

void VirtioDoorbells::Move(std::optional<GuestAddress> address) {
  for (const Bound& bound : bound_) {
    registrar_.Unregister(bound.address, events_[bound.index]);
  }
  bound_.clear();
  if (!address.has_value()) {
    return;
  }
  for (size_t i = 0; i < events_.size(); ++i) {
    const std::optional<GuestAddress> at =
        address->Plus(i * VirtioPciTransport::kNotifyStrideBytes);
    if (!at.has_value()) {
      return;
    }
    const Status registered = registrar_.Register(*at, events_[i]);
    if (registered.ok()) {
      bound_.push_back({*at, i});
    } else {
      log_.Log(LogLevel::kWarning, "{}: doorbell of queue {} is served slowly: {}", name_, i,
               registered.error().message());
    }
  }
}

void VirtioDoorbells::Ring(uint64_t offset) const {
  const uint64_t index = offset / VirtioPciTransport::kNotifyStrideBytes;
  if (index < events_.size()) {
    events_[index].Signal();
  } else {
    faults_.Count(GuestFault::kNoSuchDoorbell);
  }
}

}  // namespace pacsvisor
