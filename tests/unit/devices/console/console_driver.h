// A driver of virtio-console in a test: control messages, and the queues of its ports.
// Threads: the test's.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "devices/console/console_device.h"
#include "tests/support/virtio_device_harness.h"

namespace pacsvisor::console_test {

struct ControlMessage {
  uint32_t port = 0;
  ConsoleEvent event = ConsoleEvent::kDeviceReady;
  uint16_t value = 0;
  std::string text;

  friend bool operator==(const ControlMessage&, const ControlMessage&) = default;
};

class ConsoleDriver {
 public:
  ConsoleDriver(ConsoleDevice& device, GuestMemory& memory, uint64_t features, bool control_buffers)
      : harness_(device, memory), features_(features), control_buffers_(control_buffers) {
    Activate();
  }

  void Activate() {
    harness_.Activate({.features = features_});
    inputs_.clear();
    control_.clear();
    for (int i = 0; control_buffers_ && i < 16; ++i) {
      AddControlBuffer();
    }
  }

  VirtioDeviceHarness& harness() { return harness_; }
  VirtqueueDriver& queue(uint16_t index) { return harness_.driver(index); }

  void AddControlBuffer(uint64_t size_bytes = 128) {
    Post(kConsoleControlReceiveQueue, size_bytes, control_);
  }
  void AddInputBuffer(uint32_t port, uint64_t size_bytes) {
    Post(ConsoleReceiveQueue(port), size_bytes, inputs_);
  }

  // Says so to the device, and waits until it has heard it.
  [[nodiscard]] bool Say(uint32_t port, ConsoleEvent event, uint16_t value) {
    const VirtioConsoleControl message = {
        .port = port, .event = static_cast<uint16_t>(event), .value = value};
    std::vector<uint8_t> bytes(sizeof(message));
    std::memcpy(bytes.data(), &message, sizeof(message));
    return Say(bytes);
  }
  [[nodiscard]] bool Say(std::span<const uint8_t> bytes) {
    queue(kConsoleControlTransmitQueue).Add({Readable(harness_.heap().Place(bytes))});
    harness_.Kick(kConsoleControlTransmitQueue);
    return harness_.WaitUsed(kConsoleControlTransmitQueue).has_value();
  }

  // The next message of the device's.
  std::optional<ControlMessage> Hear(std::chrono::milliseconds limit = kTestDeadline) {
    const auto used = harness_.WaitUsed(kConsoleControlReceiveQueue, limit);
    if (!used.has_value()) {
      return std::nullopt;
    }
    const std::vector<uint8_t> bytes =
        harness_.heap().Read({control_.at(used->head).start, used->written_bytes});
    control_.erase(used->head);
    if (control_buffers_) {
      AddControlBuffer();
    }
    VirtioConsoleControl header;
    CHECK(bytes.size() >= sizeof(header));
    std::memcpy(&header, bytes.data(), sizeof(header));
    return ControlMessage{header.port, static_cast<ConsoleEvent>(header.event), header.value,
                          std::string(bytes.begin() + sizeof(header), bytes.end())};
  }

  // Sets the device and its ports up as Linux does; opens port 1.
  void SetUp() {
    ASSERT_TRUE(Say(0, ConsoleEvent::kDeviceReady, 1));
    while (true) {
      const auto message = Hear();
      ASSERT_TRUE(message.has_value());
      if (message->event == ConsoleEvent::kDeviceAdd) {
        ASSERT_TRUE(Say(message->port, ConsoleEvent::kPortReady, 1));
      } else if (message->event == ConsoleEvent::kPortName) {
        break;
      }
    }
    ASSERT_TRUE(Say(1, ConsoleEvent::kPortOpen, 1));
  }

  uint16_t Output(uint32_t port, std::string_view text) {
    const uint16_t head =
        queue(ConsoleTransmitQueue(port)).Add({Readable(harness_.heap().Place(text))});
    harness_.Kick(ConsoleTransmitQueue(port));
    return head;
  }
  [[nodiscard]] bool WaitOutput(uint32_t port) {
    return harness_.WaitUsed(ConsoleTransmitQueue(port)).has_value();
  }

  // The next buffer's worth of input.
  std::optional<std::string> Input(uint32_t port) {
    const auto used = harness_.WaitUsed(ConsoleReceiveQueue(port));
    if (!used.has_value()) {
      return std::nullopt;
    }
    const std::vector<uint8_t> bytes =
        harness_.heap().Read({inputs_.at(used->head).start, used->written_bytes});
    inputs_.erase(used->head);
    return std::string(bytes.begin(), bytes.end());
  }

 private:
  void Post(uint16_t index, uint64_t size_bytes, std::map<uint16_t, GuestRange>& posted) {
    const GuestRange range = harness_.heap().Allocate(size_bytes);
    posted[queue(index).Add({Writable(range)})] = range;
    harness_.Kick(index);
  }

  VirtioDeviceHarness harness_;
  const uint64_t features_;
  const bool control_buffers_;
  std::map<uint16_t, GuestRange> control_;
  std::map<uint16_t, GuestRange> inputs_;  // of one port a test
};

}  // namespace pacsvisor::console_test
