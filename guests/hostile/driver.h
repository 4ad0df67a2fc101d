// A virtio driver's hands on a PCI function (virtio 1.2, 3.1 and 4.1.4): obedient or not.
#pragma once

#include <cstdint>

#include "devices/virtio/virtio_pci_registers.h"
#include "guests/hostile/device_access.h"
#include "guests/hostile/pci.h"
#include "guests/hostile/ring.h"

namespace pacsvisor::hostile {

inline constexpr uint64_t kIndirectFeature = uint64_t{1} << 28;
inline constexpr uint64_t kEventIndexFeature = uint64_t{1} << 29;
inline constexpr uint64_t kVersion1 = uint64_t{1} << 32;
inline constexpr uint8_t kSetUp = kVirtioStatusAcknowledge | kVirtioStatusDriver;

class Driver {
 public:
  explicit Driver(const Function& function) : function_(&function) {}

  const Function& function() const { return *function_; }
  uint64_t Register(uint64_t offset) const { return function_->common + offset; }

  uint8_t status() const { return Read8(Register(offsetof(VirtioPciCommonConfig, device_status))); }
  void SetStatus(uint8_t status) const {
    Write8(Register(offsetof(VirtioPciCommonConfig, device_status)), status);
  }
  // False: the status did not become 0 in that time.
  bool Reset(uint64_t cycles) const;
  void WriteFeatures(uint64_t features) const;
  uint64_t OfferedFeatures() const;
  // Acknowledge, driver, features that are offered of `wanted`, FEATURES_OK. False: refused.
  bool Negotiate(uint64_t wanted) const;
  void SelectQueue(uint16_t queue) const {
    Write16(Register(offsetof(VirtioPciCommonConfig, queue_select)), queue);
  }
  uint16_t QueueSize(uint16_t queue) const;
  void SetLayout(uint16_t queue, const RingLayout& layout) const;
  void Enable(uint16_t queue, const RingLayout& layout) const;
  void DriverOk() const { SetStatus(kSetUp | kVirtioStatusFeaturesOk | kVirtioStatusDriverOk); }
  void Notify(uint16_t queue) const {
    Write16(function_->notify + uint64_t{function_->notify_multiplier} * queue, queue);
  }
  // DEVICE_NEEDS_RESET came within so many cycles.
  bool WaitNeedsReset(uint64_t cycles) const;

 private:
  const Function* function_;
};

}  // namespace pacsvisor::hostile
