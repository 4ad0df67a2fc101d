// The control queues of the console device (virtio 1.2, 5.3.6.2).
#include <algorithm>
#include <cstring>

#include "devices/console/console_device.h"
#include "vmm/base/check.h"

namespace pacsvisor {

// What the driver says. At most one queue's worth a turn: a driver that adds without end comes
// again by its doorbell.
void ConsoleDevice::ReadControl() {
  Virtqueue* queue = queues_[kConsoleControlTransmitQueue];
  if (!CanRun() || !Multiport() || queue == nullptr) {
    return;
  }
  DescriptorChain chain;
  auto result = Virtqueue::PopResult::kChain;
  for (unsigned i = 0; i < queue->size() && !failed_; ++i) {
    result = queue->Pop(chain);
    if (result == Virtqueue::PopResult::kEmpty) {
      break;
    }
    if (result == Virtqueue::PopResult::kBroken) {
      Fail(queue->broken_rule(), queue->broken_reason());
    } else if (!ReadMessage(chain)) {
      Fail(chain.writable.empty() ? GuestFault::kBufferTooShort : GuestFault::kBufferDirection,
           "control message shorter than its header, or in a buffer to be written");
    } else {
      queue->Push(chain.head, 0);
    }
  }
  InterruptIfWanted(kConsoleControlTransmitQueue);
  if (result == Virtqueue::PopResult::kChain && !failed_) {
    loop_->Post([this] { ServiceAll(); });
  }
}

bool ConsoleDevice::ReadMessage(const DescriptorChain& chain) {
  VirtioConsoleControl message;
  if (chain.readable_bytes < sizeof(message) || !chain.writable.empty()) {
    return false;
  }
  // An ABI structure without padding: any bytes are a value of it.
  std::span<uint8_t> to(reinterpret_cast<uint8_t*>(&message), sizeof(message));
  for (const GuestRange& range : chain.readable) {
    const size_t part = std::min<uint64_t>(range.size_bytes, to.size());
    const bool read = memory_->Read(range.start, to.first(part));
    CHECK(read, "a popped range at {} is not inside memory", range.start);
    to = to.subspan(part);
  }
  HandleMessage(message);
  return true;
}

void ConsoleDevice::HandleMessage(const VirtioConsoleControl& message) {
  const auto event = static_cast<ConsoleEvent>(message.event);
  if (event == ConsoleEvent::kDeviceReady) {
    for (const auto& port : ports_) {
      port->announcement() = {.add = message.value == 1 && port->exists()};
    }
    return;
  }
  if (message.port >= ports_.size() || !ports_[message.port]->exists()) {
    transport_->guest_faults().Count(GuestFault::kConsoleNoSuchPort);
    control_log_.Log(LogLevel::kWarning, "{}: the driver speaks of port {}, which is not there",
                     name_, message.port);
    return;
  }
  ConsolePort& port = *ports_[message.port];
  switch (event) {
    case ConsoleEvent::kPortReady:
      port.announcement() = {
          .console = port.is_console(), .name = !port.is_console(), .ready = message.value == 1};
      break;
    case ConsoleEvent::kPortOpen:
      port.set_guest_open(message.value == 1);
      break;
    default:
      transport_->guest_faults().Count(GuestFault::kConsoleUnknownEvent);
      control_log_.Log(LogLevel::kWarning, "{}: control message {} is none of the driver's", name_,
                       message.event);
  }
}

// What the driver is to know, as far as it has buffers for it; the rest follows when it notifies.
// What is owed is a fixed number of flags a port, however often a client comes and goes.
void ConsoleDevice::TellDriver() {
  Virtqueue* queue = queues_[kConsoleControlReceiveQueue];
  if (!CanRun() || !Multiport() || queue == nullptr) {
    return;
  }
  for (const auto& port : ports_) {
    if (!TellOf(*port)) {
      break;
    }
  }
  InterruptIfWanted(kConsoleControlReceiveQueue);
}

// False: no buffer, or failed.
bool ConsoleDevice::TellOf(ConsolePort& port) {
  ConsolePort::Announcement& owed = port.announcement();
  if (owed.add) {
    if (!Tell(port, ConsoleEvent::kDeviceAdd, 1, {})) {
      return false;
    }
    owed.add = false;
  }
  if (!owed.ready) {
    return true;
  }
  if (owed.console) {
    if (!Tell(port, ConsoleEvent::kConsolePort, 1, {})) {
      return false;
    }
    owed.console = false;
  }
  if (owed.name) {
    if (!Tell(port, ConsoleEvent::kPortName, 1, port.name())) {
      return false;
    }
    owed.name = false;
  }
  if (owed.told_open != port.host_open()) {
    if (!Tell(port, ConsoleEvent::kPortOpen, port.host_open() ? 1 : 0, {})) {
      return false;
    }
    owed.told_open = port.host_open();
  }
  return true;
}

// As above.
bool ConsoleDevice::Tell(const ConsolePort& port, ConsoleEvent event, uint16_t value,
                         std::string_view text) {
  const VirtioConsoleControl message = {
      .port = port.id(), .event = static_cast<uint16_t>(event), .value = value};
  Virtqueue* queue = queues_[kConsoleControlReceiveQueue];
  DescriptorChain chain;
  Virtqueue::PopResult result = queue->Pop(chain);
  while (result == Virtqueue::PopResult::kEmpty && queue->EnableNotifications()) {
    result = queue->Pop(chain);
  }
  if (result == Virtqueue::PopResult::kEmpty) {
    return false;
  }
  std::vector<uint8_t> bytes(sizeof(message) + text.size());
  if (result == Virtqueue::PopResult::kBroken) {
    Fail(queue->broken_rule(), queue->broken_reason());
    return false;
  }
  if (!chain.readable.empty() || chain.writable_bytes < bytes.size()) {
    Fail(chain.readable.empty() ? GuestFault::kBufferTooShort : GuestFault::kBufferDirection,
         "control buffer without room for a message");
    return false;
  }
  std::memcpy(bytes.data(), &message, sizeof(message));
  std::ranges::copy(text, bytes.begin() + sizeof(message));
  std::span<const uint8_t> from(bytes);
  for (const GuestRange& range : chain.writable) {
    const size_t part = std::min<uint64_t>(range.size_bytes, from.size());
    const bool written = memory_->Write(range.start, from.first(part));
    CHECK(written, "a popped range at {} is not inside memory", range.start);
    from = from.subspan(part);
  }
  queue->Push(chain.head, static_cast<uint32_t>(bytes.size()));
  return true;
}

}  // namespace pacsvisor
