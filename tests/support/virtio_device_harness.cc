#include "tests/support/virtio_device_harness.h"

#include <algorithm>
#include <thread>

namespace pacsvisor {

VirtioDeviceHarness::VirtioDeviceHarness(VirtioDevice& device, GuestMemory& memory)
    : device_(device),
      memory_(memory),
      heap_(std::make_shared<GuestHeap>(
          memory, GuestAddress(kMiB),
          std::min<uint64_t>(memory.size_bytes(), kLowMemoryLimitBytes) - kMiB)) {
  for (size_t i = 0; i < device.queue_sizes().size(); ++i) {
    doorbells_.push_back(EventFd::Create().value());
  }
  device.Attach(transport_, memory).value();
}

VirtioDeviceHarness::~VirtioDeviceHarness() {
  if (active_) {
    CHECK(Reset(), "the device's reset did not complete");
  }
}

VirtqueueFeatures VirtioDeviceHarness::QueueFeatures() const {
  return {.indirect_descriptors = (features_ & kVirtioFeatureIndirectDescriptors) != 0,
          .event_index = (features_ & kVirtioFeatureEventIndex) != 0};
}

void VirtioDeviceHarness::Activate(const Options& options) {
  CHECK(!active_, "reset the device first");
  features_ = options.features | kVirtioFeatureVersion1 |
              (options.event_index ? kVirtioFeatureEventIndex : 0) |
              (options.indirect ? kVirtioFeatureIndirectDescriptors : 0);
  queues_.clear();
  for (const uint16_t maximum : device_.queue_sizes()) {
    if (queues_.size() == options.queue_count) {
      break;
    }
    const uint16_t size = std::min(maximum, options.queue_size_limit);
    Queue& queue = queues_.emplace_back();
    queue.driver = std::make_unique<VirtqueueDriver>(memory_, *heap_, size, QueueFeatures());
    queue.queue = std::make_unique<Virtqueue>(
        Virtqueue::Create(memory_, queue.driver->layout(), QueueFeatures()).value());
  }
  if (options.prepare) {
    options.prepare();
  }
  ActivateDevice();
}

void VirtioDeviceHarness::ActivateDevice() {
  VirtioActivation activation{.features = features_};
  for (size_t i = 0; i < queues_.size(); ++i) {
    activation.queues.push_back({.index = static_cast<uint16_t>(i),
                                 .queue = queues_[i].queue.get(),
                                 .doorbell = &doorbells_[i]});
  }
  active_ = true;
  device_.Activate(activation);
}

bool VirtioDeviceHarness::Reset(std::chrono::milliseconds limit) {
  device_.StartReset();
  Resume();  // completions that wait at the gate
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!device_.ResetComplete()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  active_ = false;
  queues_.clear();
  return true;
}

void VirtioDeviceHarness::Pause() {
  if (!std::exchange(paused_, true)) {
    device_.Pause();
  }
}

void VirtioDeviceHarness::Resume() {
  if (std::exchange(paused_, false)) {
    device_.Resume();
  }
}

void VirtioDeviceHarness::Save(StateNode& node) const {
  CHECK(paused_, "a device is saved while paused");
  node.SetBool("active", active_);
  node.SetU64("features", features_);
  for (const Queue& queue : queues_) {
    queue.queue->Save(node.AppendTo("queues"));
  }
  device_.Save(node.AddChild("device"));
}

Status VirtioDeviceHarness::Load(const StateNode& node, VirtioDeviceHarness& source) {
  CHECK(!active_ && source.queues_.size() <= doorbells_.size());
  Pause();
  features_ = TRY(node.U64("features"));
  heap_ = source.heap_;
  const std::span<const StateNode> saved = TRY(node.Children("queues"));
  CHECK(saved.size() == source.queues_.size());
  queues_.clear();
  for (size_t i = 0; i < saved.size(); ++i) {
    Queue& queue = queues_.emplace_back();
    // A copy: the source's driver goes on with the source, if the test wants it to.
    queue.driver = std::make_unique<VirtqueueDriver>(*source.queues_[i].driver);
    queue.queue = std::make_unique<Virtqueue>(
        TRY(Virtqueue::Create(memory_, queue.driver->layout(), QueueFeatures())));
    TRY(queue.queue->Load(saved[i]));
  }
  const StateNode* device = TRY(node.Child("device"));
  TRY(device_.Load(*device));
  if (TRY(node.Bool("active"))) {
    ActivateDevice();
  }
  return {};
}

void VirtioDeviceHarness::SignalAllQueues() {
  for (size_t i = 0; i < queues_.size(); ++i) {
    transport_.InterruptQueue(static_cast<uint16_t>(i));
    doorbells_[i].Signal();
  }
}

}  // namespace pacsvisor
