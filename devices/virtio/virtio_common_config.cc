#include "devices/virtio/virtio_common_config.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

using Registers = VirtioPciCommonConfig;

// A whole field of the structure is written.
template <typename T>
bool Hits(uint64_t offset, std::span<const uint8_t> data, uint64_t field) {
  return offset == field && data.size() == sizeof(T);
}

// Of a layout that is not possible.
GuestFault WhatIsWrong(const VirtqueueLayout& layout, uint16_t maximum_size) {
  if (!IsPowerOfTwo(layout.size) || layout.size > maximum_size) {
    return GuestFault::kQueueSize;
  }
  const bool aligned = IsAligned(layout.descriptor_table.raw(), kVirtqDescriptorAlignment) &&
                       IsAligned(layout.available_ring.raw(), kVirtqAvailableAlignment) &&
                       IsAligned(layout.used_ring.raw(), kVirtqUsedAlignment);
  return aligned ? GuestFault::kQueueOutsideMemory : GuestFault::kQueueAlignment;
}

// Fields that only the device writes (4.1.4.3).
bool IsReadOnly(uint64_t offset) {
  return offset == offsetof(Registers, device_feature) ||
         offset == offsetof(Registers, num_queues) ||
         offset == offsetof(Registers, config_generation) ||
         offset == offsetof(Registers, queue_notify_off);
}

uint32_t FeatureWord(uint64_t features, uint32_t select) {
  return select < 2 ? static_cast<uint32_t>(features >> (32 * select)) : 0;
}

}  // namespace

VirtioCommonConfig::VirtioCommonConfig(VirtioDevice& device, GuestMemory& memory,
                                       VirtioInterrupts& interrupts, VirtioStatus& status,
                                       std::span<const EventFd> doorbells,
                                       VirtioTransport& transport)
    : device_(device),
      memory_(memory),
      interrupts_(interrupts),
      status_(status),
      doorbells_(doorbells),
      transport_(transport) {
  for (const uint16_t size : device.queue_sizes()) {
    queues_.push_back({.maximum_size = size, .layout = {.size = size}});
  }
}

uint64_t VirtioCommonConfig::OfferedFeatures() const {
  return device_.device_features() | kVirtioTransportFeatures;
}

VirtqueueFeatures VirtioCommonConfig::RingFeatures() const {
  return {.indirect_descriptors = (driver_features_ & kVirtioFeatureIndirectDescriptors) != 0,
          .event_index = (driver_features_ & kVirtioFeatureEventIndex) != 0};
}

VirtioCommonConfig::Queue* VirtioCommonConfig::SelectedQueue() {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

Registers VirtioCommonConfig::Image() {
  Registers image;
  image.device_feature_select = device_feature_select_;
  image.device_feature = FeatureWord(OfferedFeatures(), device_feature_select_);
  image.driver_feature_select = driver_feature_select_;
  image.driver_feature = FeatureWord(driver_features_, driver_feature_select_);
  image.config_msix_vector = interrupts_.config_vector();
  image.num_queues = static_cast<uint16_t>(queues_.size());
  image.device_status = status_.value();
  image.config_generation = device_.config_generation();
  image.queue_select = queue_select_;
  // A queue that is not there has size 0 (4.1.4.3.1).
  if (const Queue* queue = SelectedQueue()) {
    image.queue_size = queue->layout.size;
    image.queue_msix_vector = interrupts_.queue_vector(queue_select_);
    image.queue_enable = queue->ring != nullptr ? 1 : 0;
    image.queue_notify_off = queue_select_;
    image.queue_desc = queue->layout.descriptor_table.raw();
    image.queue_driver = queue->layout.available_ring.raw();
    image.queue_device = queue->layout.used_ring.raw();
  }
  return image;
}

void VirtioCommonConfig::Read(uint64_t offset, std::span<uint8_t> data) {
  PollReset();
  const Registers image = Image();
  std::ranges::fill(data, uint8_t{0});
  if (offset < sizeof(image)) {
    // The image is an ABI structure of plain numbers.
    const auto* bytes = reinterpret_cast<const uint8_t*>(&image);
    std::memcpy(data.data(), bytes + offset, std::min<size_t>(data.size(), sizeof(image) - offset));
  }
}

void VirtioCommonConfig::Write(uint64_t offset, std::span<const uint8_t> data) {
  PollReset();
  if (resetting_) {
    Count(GuestFault::kRegisterDuringReset);
    return;  // the driver waits until the status reads 0 (2.4.2)
  }
  if (Hits<uint32_t>(offset, data, offsetof(Registers, device_feature_select))) {
    device_feature_select_ = LoadLe<uint32_t>(data.data());
  } else if (Hits<uint32_t>(offset, data, offsetof(Registers, driver_feature_select))) {
    driver_feature_select_ = LoadLe<uint32_t>(data.data());
  } else if (Hits<uint32_t>(offset, data, offsetof(Registers, driver_feature))) {
    WriteDriverFeature(LoadLe<uint32_t>(data.data()));
  } else if (Hits<uint16_t>(offset, data, offsetof(Registers, config_msix_vector))) {
    if (!interrupts_.SetConfigVector(LoadLe<uint16_t>(data.data()))) {
      Count(GuestFault::kNoSuchVector);
    }
  } else if (Hits<uint8_t>(offset, data, offsetof(Registers, device_status))) {
    WriteStatus(data[0]);
  } else if (Hits<uint16_t>(offset, data, offsetof(Registers, queue_select))) {
    queue_select_ = LoadLe<uint16_t>(data.data());
  } else if (IsReadOnly(offset)) {
    Count(GuestFault::kReadOnlyRegister);
  } else if (offset < offsetof(Registers, queue_size)) {
    Count(GuestFault::kWrongAccess);
  } else {
    WriteQueueField(offset, data);
  }
}

void VirtioCommonConfig::WriteDriverFeature(uint32_t value) {
  if (status_.Has(kVirtioStatusFeaturesOk)) {
    Count(GuestFault::kFeaturesAfterNegotiation);
    return;  // negotiated (3.1.1)
  }
  if (driver_feature_select_ >= 2) {
    unknown_features_ |= value != 0;
    return;
  }
  const unsigned shift = 32 * driver_feature_select_;
  driver_features_ &= ~(uint64_t{0xffff'ffff} << shift);
  driver_features_ |= uint64_t{value} << shift;
}

void VirtioCommonConfig::WriteQueueField(uint64_t offset, std::span<const uint8_t> data) {
  Queue* queue = SelectedQueue();
  if (queue == nullptr) {
    Count(GuestFault::kNoSuchQueue);
    return;
  }
  if (Hits<uint16_t>(offset, data, offsetof(Registers, queue_msix_vector))) {
    if (!interrupts_.SetQueueVector(queue_select_, LoadLe<uint16_t>(data.data()))) {
      Count(GuestFault::kNoSuchVector);
    }
    return;
  }
  if (queue->ring != nullptr) {
    Count(GuestFault::kQueueChangedWhileEnabled);
    return;  // latched
  }
  if (Hits<uint16_t>(offset, data, offsetof(Registers, queue_size))) {
    queue->layout.size = LoadLe<uint16_t>(data.data());
  } else if (Hits<uint16_t>(offset, data, offsetof(Registers, queue_enable))) {
    if (LoadLe<uint16_t>(data.data()) == 1) {  // writing 0 is forbidden (4.1.4.3.2)
      EnableQueue(*queue);
    }
  } else if (offset >= offsetof(Registers, queue_desc)) {
    WriteQueueAddress(*queue, offset, data);
  } else {
    Count(GuestFault::kWrongAccess);
  }
}

void VirtioCommonConfig::WriteQueueAddress(Queue& queue, uint64_t offset,
                                           std::span<const uint8_t> data) {
  GuestAddress* const fields[] = {&queue.layout.descriptor_table, &queue.layout.available_ring,
                                  &queue.layout.used_ring};
  const uint64_t field = (offset - offsetof(Registers, queue_desc)) / 8;
  const uint64_t within = offset % 8;
  const bool whole = within == 0 && data.size() == 8;
  const bool half = within % 4 == 0 && data.size() == 4;
  if (field >= std::size(fields) || !(whole || half)) {
    Count(GuestFault::kWrongAccess);
    return;
  }
  uint8_t bytes[8];
  StoreLe<uint64_t>(bytes, fields[field]->raw());
  std::ranges::copy(data, bytes + within);
  *fields[field] = GuestAddress(LoadLe<uint64_t>(bytes));
}

void VirtioCommonConfig::EnableQueue(Queue& queue) {
  if (!status_.Has(kVirtioStatusFeaturesOk) || status_.Has(kVirtioStatusDriverOk)) {
    // Queues are set up between the two (3.1.1); later only with VIRTIO_F_RING_RESET.
    transport_.BrokeRule(GuestFault::kQueueEnabledAtWrongTime,
                         "a queue was enabled before FEATURES_OK or after DRIVER_OK");
    return;
  }
  if (queue.layout.size > queue.maximum_size) {
    transport_.BrokeRule(GuestFault::kQueueSize,
                         fmt::format("queue {} has size {}, at most {} is possible", queue_select_,
                                     queue.layout.size, queue.maximum_size));
    return;
  }
  Result<Virtqueue> ring = Virtqueue::Create(memory_, queue.layout, RingFeatures());
  if (!ring.ok()) {
    transport_.BrokeRule(WhatIsWrong(queue.layout, queue.maximum_size),
                         fmt::format("queue {}: {}", queue_select_, ring.error().message()));
    return;
  }
  queue.ring = std::make_unique<Virtqueue>(*std::move(ring));
}

bool VirtioCommonConfig::FeaturesAcceptable() const {
  return !unknown_features_ && (driver_features_ & ~OfferedFeatures()) == 0 &&
         (driver_features_ & kVirtioFeatureVersion1) != 0;
}

void VirtioCommonConfig::WriteStatus(uint8_t value) {
  if (value == 0) {
    StartReset();
    return;
  }
  // Bits are never taken back but by a reset (2.1.1).
  uint8_t added = value & kVirtioStatusDriverBits & ~status_.value();
  if ((added & kVirtioStatusFeaturesOk) != 0 && !FeaturesAcceptable()) {
    Count(GuestFault::kFeaturesNotOffered);
    added &= ~kVirtioStatusFeaturesOk;  // the driver reads that back and gives up (3.1.1)
  }
  const bool features_ok = ((status_.value() | added) & kVirtioStatusFeaturesOk) != 0;
  if ((added & kVirtioStatusDriverOk) != 0 && !features_ok) {
    Count(GuestFault::kDriverOkTooEarly);
    added &= ~kVirtioStatusDriverOk;
  }
  status_.Add(added);
  if ((added & kVirtioStatusDriverOk) == 0) {
    return;
  }
  if (status_.Has(kVirtioStatusNeedsReset)) {
    interrupts_.InterruptConfigChange();  // it became so during set-up, when nobody could be told
  } else {
    Activate();
  }
}

void VirtioCommonConfig::Activate() {
  VirtioActivation activation{.features = driver_features_};
  for (uint16_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].ring != nullptr) {
      activation.queues.push_back(
          {.index = i, .queue = queues_[i].ring.get(), .doorbell = &doorbells_[i]});
    }
  }
  active_ = true;
  device_.Activate(activation);
}

void VirtioCommonConfig::StartReset() {
  if (active_) {
    device_.StartReset();
    resetting_ = true;
    PollReset();
  } else {
    FinishReset();
  }
}

void VirtioCommonConfig::PollReset() {
  if (resetting_ && device_.ResetComplete()) {
    FinishReset();
  }
}

void VirtioCommonConfig::FinishReset() {
  resetting_ = false;
  active_ = false;
  device_feature_select_ = 0;
  driver_feature_select_ = 0;
  driver_features_ = 0;
  unknown_features_ = false;
  queue_select_ = 0;
  for (Queue& queue : queues_) {
    queue.ring.reset();
    queue.layout = {.size = queue.maximum_size};
  }
  interrupts_.Reset();
  status_.Set(0);
}

}  // namespace pacsvisor
