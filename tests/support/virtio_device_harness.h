// A virtio device in a test: guest memory, a fake transport, a driver for each of its queues, and
// the device's life as the real transport would lead it (Activate, StartReset, Pause, Save, Load).
// Threads: the test's.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "devices/virtio/virtio_device.h"
#include "tests/support/fake_virtio_transport.h"
#include "tests/support/virtio_driver.h"

namespace pacsvisor {

class VirtioDeviceHarness {
 public:
  // `memory` is shared by harnesses that stand for a machine and its restored twin. Calls
  // device.Attach. The heap begins at 1 MiB.
  VirtioDeviceHarness(VirtioDevice& device, GuestMemory& memory);
  // Resets the device (and resumes it) and waits until the reset is complete, so that it lets go of
  // the queues.
  ~VirtioDeviceHarness();

  struct Options {
    uint64_t features = 0;    // device features; the version is added
    bool event_index = true;  // also negotiated
    bool indirect = true;
    uint16_t queue_size_limit = 64;     // queues are made this small or smaller
    uint16_t queue_count = UINT16_MAX;  // the first so many are enabled
    // Called when the rings are laid out, before the device knows of them: a driver may fill them
    // before DRIVER_OK.
    std::function<void()> prepare;
  };
  // Fresh rings, fresh drivers, then Activate.
  void Activate(const Options& options);
  void Activate() { Activate(Options{}); }
  // StartReset, wait for completion, destroy the queues. False when it did not complete.
  [[nodiscard]] bool Reset(std::chrono::milliseconds limit = kTestDeadline);

  void Pause();
  void Resume();
  // As the transport saves and loads: queues, then the device; Save while paused. Load makes a
  // paused, activated device over the same memory; the drivers are taken over from `source`, which
  // must not touch its queues any more. Resume() and SignalAllQueues() are the test's to call.
  void Save(StateNode& node) const;
  Status Load(const StateNode& node, VirtioDeviceHarness& source);
  // After Load and Resume: each live queue as if just kicked, each vector raised once.
  void SignalAllQueues();

  bool active() const { return active_; }
  GuestMemory& memory() { return memory_; }
  GuestHeap& heap() { return *heap_; }
  FakeVirtioTransport& transport() { return transport_; }
  VirtqueueDriver& driver(uint16_t queue) { return *queues_.at(queue).driver; }
  Virtqueue& queue(uint16_t queue) { return *queues_.at(queue).queue; }
  const EventFd& doorbell(uint16_t queue) const { return doorbells_.at(queue); }

  // Kick and wait, of one queue.
  bool Kick(uint16_t queue) { return driver(queue).Kick(doorbell(queue)); }
  std::optional<VirtqueueDriver::Used> WaitUsed(uint16_t queue,
                                                std::chrono::milliseconds limit = kTestDeadline) {
    return driver(queue).WaitUsed(transport_, queue, limit);
  }

 private:
  struct Queue {
    std::unique_ptr<VirtqueueDriver> driver;
    std::unique_ptr<Virtqueue> queue;
  };
  VirtqueueFeatures QueueFeatures() const;
  void ActivateDevice();

  VirtioDevice& device_;
  GuestMemory& memory_;
  std::shared_ptr<GuestHeap> heap_;  // shared with the restored twin, whose drivers go on using it
  FakeVirtioTransport transport_;
  std::vector<EventFd> doorbells_;
  std::vector<Queue> queues_;
  uint64_t features_ = 0;
  bool active_ = false;
  bool paused_ = false;
};

}  // namespace pacsvisor
