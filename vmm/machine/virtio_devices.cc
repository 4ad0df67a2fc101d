#include "vmm/machine/virtio_devices.h"

#include <string_view>
#include <utility>

namespace pacsvisor {
namespace {

constexpr uint32_t kVirtioDevicesStateVersion = 1;

}  // namespace

Status VirtioDevices::Add(std::unique_ptr<VirtioDevice> device) {
  auto transport =
      TRY(VirtioPciTransport::Create(*device, host_.memory, host_.msi, host_.doorbells));
  TRY(host_.pci.Add(*transport));
  slots_.push_back({std::move(device), std::move(transport)});
  return {};
}

std::vector<DeviceFaults> VirtioDevices::GuestFaults() const {
  std::vector<DeviceFaults> devices;
  for (const Slot& slot : slots_) {
    devices.push_back({std::string(slot.device->name()), slot.transport->guest_faults().NonZero()});
  }
  return devices;
}

void VirtioDevices::Pause() {
  for (const Slot& slot : slots_) {
    slot.transport->Pause();
  }
}

void VirtioDevices::Resume() {
  for (const Slot& slot : slots_) {
    slot.transport->Resume();
  }
}

void VirtioDevices::Save(StateNode& node) const {
  node.SetVersion(kVirtioDevicesStateVersion);
  for (const Slot& slot : slots_) {
    StateNode& child = node.AppendTo("devices");
    child.SetString("name", std::string(slot.device->name()));
    slot.transport->Save(child.AddChild("state"));
  }
}

Status VirtioDevices::Load(const StateNode& node) {
  TRY(node.Version(kVirtioDevicesStateVersion));
  const std::span<const StateNode> saved = TRY(node.Children("devices"));
  if (saved.size() != slots_.size()) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the saved machine has {} devices, this configuration makes {}",
                       saved.size(), slots_.size());
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    const std::string name = TRY(saved[i].String("name"));
    const Slot& slot = slots_[i];
    if (name != slot.device->name()) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "the saved machine has '{}' where this configuration makes '{}'", name,
                         slot.device->name());
    }
    const StateNode* const state = TRY(saved[i].Child("state"));
    Status loaded = slot.transport->Load(*state);
    if (!loaded.ok()) {
      return std::move(loaded).error().WithContext(name);
    }
  }
  return {};
}

}  // namespace pacsvisor
