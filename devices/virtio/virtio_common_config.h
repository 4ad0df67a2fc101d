// The common configuration of a virtio PCI function (virtio 1.2, 4.1.4.3): feature negotiation,
// queue set-up, device status, and with them the life of the device (3.1, 2.4).
//
// Sizes and addresses of a queue are latched and checked when the driver enables it; what cannot be
// makes the device need a reset. A reset takes effect at once when the device has nothing in
// flight; else the status reads as before until it is complete (4.1.4.3.1, 2.4.1). Threads: one at
// a time, under the transport's lock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "devices/virtio/virtio_device.h"
#include "devices/virtio/virtio_interrupts.h"
#include "devices/virtio/virtio_pci_registers.h"
#include "devices/virtio/virtio_status.h"
#include "vmm/base/event_fd.h"

namespace pacsvisor {

class VirtioCommonConfig : public Stateful {
 public:
  // All borrowed. `doorbells` has one a queue.
  VirtioCommonConfig(VirtioDevice& device, GuestMemory& memory, VirtioInterrupts& interrupts,
                     VirtioStatus& status, std::span<const EventFd> doorbells,
                     VirtioTransport& transport);

  // Offsets in the structure; any size and alignment. Bytes behind it read as zeroes.
  void Read(uint64_t offset, std::span<uint8_t> data);
  // Fields are written whole, those of 64 bits also by halves (4.1.3.1); other accesses do nothing.
  void Write(uint64_t offset, std::span<const uint8_t> data);

  // The driver set DRIVER_OK and the device was told.
  bool active() const { return active_; }
  // The device was told to reset and has not finished; active() until then.
  bool resetting() const { return resetting_; }
  bool QueueEnabled(uint16_t queue) const { return queues_.at(queue).ring != nullptr; }

  void Save(StateNode& node) const override;
  // On a fresh object. Does not tell the device: ActivateLoaded does, after its own Load.
  Status Load(const StateNode& node) override;
  void ActivateLoaded();

 private:
  struct Queue {
    uint16_t maximum_size = 0;
    VirtqueueLayout layout;           // as the driver writes it; constant once enabled
    std::unique_ptr<Virtqueue> ring;  // once enabled
  };

  uint64_t OfferedFeatures() const;
  VirtqueueFeatures RingFeatures() const;
  Queue* SelectedQueue();
  VirtioPciCommonConfig Image();
  void PollReset();
  void WriteStatus(uint8_t value);
  bool FeaturesAcceptable() const;
  void WriteDriverFeature(uint32_t value);
  void WriteQueueField(uint64_t offset, std::span<const uint8_t> data);
  void WriteQueueAddress(Queue& queue, uint64_t offset, std::span<const uint8_t> data);
  void EnableQueue(Queue& queue);
  void Count(GuestFault fault) { transport_.guest_faults().Count(fault); }
  void Activate();
  void StartReset();
  void FinishReset();
  Status LoadQueue(const StateNode& node, uint16_t index);

  VirtioDevice& device_;
  GuestMemory& memory_;
  VirtioInterrupts& interrupts_;
  VirtioStatus& status_;
  const std::span<const EventFd> doorbells_;
  VirtioTransport& transport_;
  uint32_t device_feature_select_ = 0;
  uint32_t driver_feature_select_ = 0;
  uint64_t driver_features_ = 0;
  bool unknown_features_ = false;  // a bit beyond 63 was accepted: never offered
  uint16_t queue_select_ = 0;
  std::vector<Queue> queues_;
  bool active_ = false;
  bool resetting_ = false;
  bool activate_loaded_ = false;  // the loaded state is of an active device, which was not told yet
};

}  // namespace pacsvisor
