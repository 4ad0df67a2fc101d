// A virtio device with a worker under a driver that is all input: every queue's size, descriptor
// table and available ring, and the memory that its descriptors may well point to.
#pragma once

#include <poll.h>

#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "devices/virtio/split_ring.h"
#include "devices/virtio/virtio_device.h"
#include "tests/support/fuzz_input.h"
#include "tests/support/virtio_driver.h"

namespace pacsvisor {

class SilentTransport : public VirtioTransport {
 public:
  void InterruptQueue(uint16_t /*queue*/) override {}
  void InterruptConfigChange() override {}
  void NeedsReset(std::string_view /*reason*/) override {}
};

// One device for all inputs, over memory that it shares with a twin which takes over its state.
class HostileQueues {
 public:
  HostileQueues(VirtioDevice& device, GuestMemory& memory) : device_(device), memory_(memory) {
    for (size_t i = 0; i < device.queue_sizes().size(); ++i) {
      doorbells_.push_back(EventFd::Create().value());
    }
    CHECK(device.Attach(transport_, memory).ok());
  }

  // Empties the memory, then fills rings and buffers from `input`.
  void Place(FuzzInput& input) {
    CHECK(memory_.Fill({GuestAddress(0), kUsedBytes}, 0));
    const auto shape = input.Take<uint8_t>();
    features_ = {.indirect_descriptors = (shape & 0x40) != 0, .event_index = (shape & 0x80) != 0};
    layouts_.clear();
    for (size_t i = 0; i < doorbells_.size(); ++i) {
      const uint64_t start = kRings + i * kRingStride;
      const VirtqueueLayout layout{.size = static_cast<uint16_t>(1u << (shape % 4)),
                                   .descriptor_table = GuestAddress(start),
                                   .available_ring = GuestAddress(start + 0x200),
                                   .used_ring = GuestAddress(start + 0x300)};
      CHECK(memory_.Write(layout.descriptor_table,
                          input.TakeBytes(VirtqDescriptorTableBytes(layout.size))));
      CHECK(memory_.Write(layout.available_ring,
                          input.TakeBytes(VirtqAvailableRingBytes(layout.size))));
      layouts_.push_back(layout);
    }
    CHECK(memory_.Write(GuestAddress(kBuffers), input.TakeBytes(kBufferBytes)));
  }

  // The same rings, as they are now.
  void TakeOver(const HostileQueues& source) {
    features_ = source.features_;
    layouts_ = source.layouts_;
  }

  void Activate(uint64_t features) {
    queues_.clear();
    for (const VirtqueueLayout& layout : layouts_) {
      queues_.push_back(
          std::make_unique<Virtqueue>(Virtqueue::Create(memory_, layout, features_).value()));
    }
    Start(features);
  }
  void Activate(uint64_t features, const StateNode& saved) {
    queues_.clear();
    const auto rings = saved.Children("queues").value();
    for (size_t i = 0; i < layouts_.size(); ++i) {
      queues_.push_back(
          std::make_unique<Virtqueue>(Virtqueue::Create(memory_, layouts_[i], features_).value()));
      CHECK(queues_[i]->Load(rings[i]).ok());
    }
    CHECK(device_.Load(*saved.Child("device").value()).ok());
    Start(features);
  }

  // Kicks every queue and waits until the worker has served them: it takes a second kick only after
  // what the first one asked for.
  void Serve() {
    for (int round = 0; round < 2; ++round) {
      for (const EventFd& doorbell : doorbells_) {
        doorbell.Signal();
      }
      for (const EventFd& doorbell : doorbells_) {
        pollfd waiting = {.fd = doorbell.fd(), .events = POLLIN, .revents = 0};
        while (::poll(&waiting, 1, 0) == 1) {
          std::this_thread::yield();
        }
      }
    }
  }

  void Save(StateNode& node) const {
    for (const auto& queue : queues_) {
      queue->Save(node.AppendTo("queues"));
    }
    device_.Save(node.AddChild("device"));
  }

  void Reset() {
    device_.StartReset();
    while (!device_.ResetComplete()) {
      std::this_thread::yield();
    }
  }

 private:
  static constexpr uint64_t kRings = 0x1000;
  static constexpr uint64_t kRingStride = 0x400;
  static constexpr uint64_t kBuffers = 0x8000;
  static constexpr size_t kBufferBytes = 0x4000;
  static constexpr uint64_t kUsedBytes = 0x20000;

  void Start(uint64_t features) {
    VirtioActivation activation{.features = features | kVirtioFeatureVersion1};
    for (size_t i = 0; i < queues_.size(); ++i) {
      activation.queues.push_back({.index = static_cast<uint16_t>(i),
                                   .queue = queues_[i].get(),
                                   .doorbell = &doorbells_[i]});
    }
    device_.Activate(activation);
  }

  VirtioDevice& device_;
  GuestMemory& memory_;
  SilentTransport transport_;
  std::vector<EventFd> doorbells_;
  VirtqueueFeatures features_;
  std::vector<VirtqueueLayout> layouts_;
  std::vector<std::unique_ptr<Virtqueue>> queues_;
};

}  // namespace pacsvisor
