// A driver of virtio-net in a test: sends frames one at a time, keeps the receive queue filled,
// puts merged frames together again. Threads: the test's.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <vector>

#include "devices/net/net_device.h"
#include "tests/support/virtio_device_harness.h"
#include "tests/unit/devices/net/packets.h"

namespace pacsvisor::net_test {

struct ReceivedFrame {
  VirtioNetHeader header;
  Bytes bytes;
};

class GuestCard {
 public:
  struct Options {
    uint64_t features = 0;
    uint32_t receive_buffer_bytes = 2048;
    uint16_t receive_buffers = 32;
    VirtioDeviceHarness::Options ring;
  };

  GuestCard(NetDevice& device, GuestMemory& memory, Options options)
      : options_(options), harness_(device, memory) {
    send_buffer_ = harness_.heap().Allocate(sizeof(VirtioNetHeader) + kNetMaxFrameBytes);
    answer_ = harness_.heap().Allocate(1);
    command_ = harness_.heap().Allocate(kNetControlMaxBytes + 64);
    Activate();
  }

  void Activate() {
    options_.ring.features = options_.features;
    harness_.Activate(options_.ring);
    posted_.clear();
    for (uint16_t i = 0; i < options_.receive_buffers; ++i) {
      Post(harness_.heap().Allocate(options_.receive_buffer_bytes));
    }
    harness_.Kick(kNetReceiveQueue);
  }

  // Of the next Activate.
  void set_features(uint64_t features) { options_.features = features; }

  VirtioDeviceHarness& harness() { return harness_; }
  VirtqueueDriver& receive() { return harness_.driver(kNetReceiveQueue); }

  // A frame in `pieces` descriptors, header included; waits until the device has given it back.
  [[nodiscard]] bool Send(const VirtioNetHeader& header, const Bytes& frame, size_t pieces = 1) {
    Bytes all(sizeof(header));
    std::memcpy(all.data(), &header, sizeof(header));
    Put(all, frame);
    CHECK(harness_.memory().Write(send_buffer_.start, all));
    std::vector<VirtioBuffer> buffers;
    const size_t piece = std::max<size_t>(1, all.size() / pieces);
    for (size_t at = 0; at < all.size();) {
      const size_t size =
          buffers.size() + 1 == pieces ? all.size() - at : std::min(piece, all.size() - at);
      buffers.push_back(Readable({GuestAddress(send_buffer_.start.raw() + at), size}));
      at += size;
    }
    harness_.driver(kNetTransmitQueue).Add(buffers);
    harness_.Kick(kNetTransmitQueue);
    const auto used = harness_.WaitUsed(kNetTransmitQueue);
    return used.has_value() && used->written_bytes == 0;
  }
  [[nodiscard]] bool Send(const Bytes& frame) { return Send(VirtioNetHeader{}, frame); }

  // The next frame; none when nothing comes within `limit`.
  std::optional<ReceivedFrame> Receive(std::chrono::milliseconds limit = kTestDeadline) {
    auto used = harness_.WaitUsed(kNetReceiveQueue, limit);
    if (!used.has_value()) {
      return std::nullopt;
    }
    ReceivedFrame frame;
    Bytes all = Take(*used);
    CHECK(all.size() >= sizeof(frame.header), "{} bytes", all.size());
    std::memcpy(&frame.header, all.data(), sizeof(frame.header));
    for (uint16_t i = 1; i < frame.header.buffer_count; ++i) {
      used = receive().TakeUsed();
      // 5.1.6.4: together.
      CHECK(used.has_value(), "buffer {} of {} is missing", i, frame.header.buffer_count);
      Put(all, Take(*used));
    }
    frame.bytes.assign(all.begin() + sizeof(frame.header), all.end());
    harness_.Kick(kNetReceiveQueue);
    return frame;
  }

  // A control command; the device's answer.
  std::optional<uint8_t> Control(const Bytes& command) {
    CHECK(harness_.memory().Write(command_.start, command));
    CHECK(harness_.memory().Fill(answer_, 0xee));
    harness_.driver(kNetControlQueue)
        .Add({Readable({command_.start, command.size()}), Writable(answer_)});
    harness_.Kick(kNetControlQueue);
    if (!harness_.WaitUsed(kNetControlQueue).has_value()) {
      return std::nullopt;
    }
    return harness_.heap().Read(answer_)[0];
  }

 private:
  void Post(GuestRange range) { posted_[receive().Add({Writable(range)})] = range; }
  Bytes Take(const VirtqueueDriver::Used& used) {
    const GuestRange range = posted_.at(used.head);
    posted_.erase(used.head);
    Bytes bytes = harness_.heap().Read({range.start, used.written_bytes});
    Post(range);
    return bytes;
  }

  Options options_;
  VirtioDeviceHarness harness_;
  GuestRange send_buffer_;
  GuestRange answer_;
  GuestRange command_;
  std::map<uint16_t, GuestRange> posted_;
};

}  // namespace pacsvisor::net_test
