// Saving and loading the common configuration with its queues.
#include <utility>

#include "devices/virtio/virtio_common_config.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kVirtioCommonConfigStateVersion = 1;

}  // namespace

void VirtioCommonConfig::Save(StateNode& node) const {
  node.SetVersion(kVirtioCommonConfigStateVersion);
  // A reset that waits for host I/O only is complete for whoever loads: there is no such I/O there.
  node.SetBool("resetting", resetting_);
  node.SetBool("active", active_);
  node.SetU64("status", status_.value());
  node.SetU64("device_feature_select", device_feature_select_);
  node.SetU64("driver_feature_select", driver_feature_select_);
  node.SetU64("driver_features", driver_features_);
  node.SetBool("unknown_features", unknown_features_);
  node.SetU64("queue_select", queue_select_);
  node.SetU64("config_vector", interrupts_.config_vector());
  node.SetU64("isr", interrupts_.isr());
  for (uint16_t i = 0; i < queues_.size(); ++i) {
    const Queue& queue = queues_[i];
    StateNode& saved = node.AppendTo("queues");
    saved.SetU64("size", queue.layout.size);
    saved.SetU64("descriptor_table", queue.layout.descriptor_table.raw());
    saved.SetU64("available_ring", queue.layout.available_ring.raw());
    saved.SetU64("used_ring", queue.layout.used_ring.raw());
    saved.SetU64("vector", interrupts_.queue_vector(i));
    if (queue.ring != nullptr) {
      queue.ring->Save(saved.AddChild("ring"));
    }
  }
}

Status VirtioCommonConfig::Load(const StateNode& node) {
  TRY(node.Version(kVirtioCommonConfigStateVersion));
  if (TRY(node.Bool("resetting"))) {
    FinishReset();
    return {};
  }
  const uint8_t status = TRY(node.Get<uint8_t>("status"));
  driver_features_ = TRY(node.U64("driver_features"));
  unknown_features_ = TRY(node.Bool("unknown_features"));
  const uint64_t missing = driver_features_ & ~OfferedFeatures();
  const bool features_ok = (status & kVirtioStatusFeaturesOk) != 0;
  if (features_ok && missing != 0) {
    return Error::Make(ErrorCode::kUnsupported,
                       "{}: the guest uses features {:#x} that this device does not offer here",
                       device_.name(), missing);
  }
  device_feature_select_ = TRY(node.Get<uint32_t>("device_feature_select"));
  driver_feature_select_ = TRY(node.Get<uint32_t>("driver_feature_select"));
  queue_select_ = TRY(node.Get<uint16_t>("queue_select"));
  interrupts_.SetConfigVector(TRY(node.Get<uint16_t>("config_vector")));
  interrupts_.SetIsr(TRY(node.Get<uint8_t>("isr")));
  const std::span<const StateNode> saved = TRY(node.Children("queues"));
  if (saved.size() != queues_.size()) {
    return Error::Make(ErrorCode::kUnsupported, "{}: saved with {} queues, this one has {}",
                       device_.name(), saved.size(), queues_.size());
  }
  for (uint16_t i = 0; i < queues_.size(); ++i) {
    TRY(LoadQueue(saved[i], i));
  }
  const bool active = TRY(node.Bool("active"));
  // What a driver can reach (3.1.1): no device is activated with features that it does not offer.
  const bool driver_ok = (status & kVirtioStatusDriverOk) != 0;
  if ((active && !driver_ok) || (driver_ok && !features_ok) ||
      (features_ok && !FeaturesAcceptable())) {
    return Error::Make(ErrorCode::kCorrupt,
                       "{}: saved with status {:#x} and features {:#x}, which no driver reaches",
                       device_.name(), status, driver_features_);
  }
  activate_loaded_ = active;
  status_.Set(status & (kVirtioStatusDriverBits | kVirtioStatusNeedsReset));
  return {};
}

Status VirtioCommonConfig::LoadQueue(const StateNode& node, uint16_t index) {
  Queue& queue = queues_[index];
  queue.layout.size = TRY(node.Get<uint16_t>("size"));
  queue.layout.descriptor_table = GuestAddress(TRY(node.U64("descriptor_table")));
  queue.layout.available_ring = GuestAddress(TRY(node.U64("available_ring")));
  queue.layout.used_ring = GuestAddress(TRY(node.U64("used_ring")));
  interrupts_.SetQueueVector(index, TRY(node.Get<uint16_t>("vector")));
  if (!node.Has("ring")) {
    return {};
  }
  if (queue.layout.size > queue.maximum_size) {
    return Error::Make(ErrorCode::kCorrupt, "{}: queue {} saved with size {}, at most {}",
                       device_.name(), index, queue.layout.size, queue.maximum_size);
  }
  queue.ring =
      std::make_unique<Virtqueue>(TRY(Virtqueue::Create(memory_, queue.layout, RingFeatures())));
  const StateNode* ring = TRY(node.Child("ring"));
  return queue.ring->Load(*ring);
}

void VirtioCommonConfig::ActivateLoaded() {
  if (std::exchange(activate_loaded_, false)) {
    Activate();
  }
}

}  // namespace pacsvisor
