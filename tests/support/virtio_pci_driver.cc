#include "tests/support/virtio_pci_driver.h"

#include <thread>

#include "devices/pci/pci_registers.h"

namespace pacsvisor {

using Common = VirtioPciCommonConfig;

VirtioPciDriver::VirtioPciDriver(PciMachine& machine, uint8_t device)
    : machine_(machine), device_(device) {
  for (const uint8_t at : machine.Capabilities(device, kPciCapabilityVendor)) {
    const Structure structure{machine.ReadConfig<uint8_t>(device, at + 4u),
                              machine.ReadConfig<uint32_t>(device, at + 8u)};
    switch (static_cast<VirtioPciCapabilityType>(machine.ReadConfig<uint8_t>(device, at + 3u))) {
      case VirtioPciCapabilityType::kCommonConfig:
        common_ = structure;
        break;
      case VirtioPciCapabilityType::kNotify:
        notify_ = structure;
        notify_multiplier_ = machine.ReadConfig<uint32_t>(device, at + 16u);
        break;
      case VirtioPciCapabilityType::kIsr:
        isr_ = structure;
        break;
      case VirtioPciCapabilityType::kDeviceConfig:
        config_ = structure;
        break;
      case VirtioPciCapabilityType::kPciConfigAccess:
        config_access_ = at;
        break;
    }
  }
  msix_ = machine.Capabilities(device, kPciCapabilityMsix).at(0);
}

uint64_t VirtioPciDriver::notify_address(uint16_t queue) {
  WriteCommon<uint16_t>(offsetof(Common, queue_select), queue);
  const auto notify_off = ReadCommon<uint16_t>(offsetof(Common, queue_notify_off));
  return Address(notify_) + uint64_t{notify_off} * notify_multiplier_;
}

uint64_t VirtioPciDriver::OfferedFeatures() {
  uint64_t features = 0;
  for (const uint32_t word : {0u, 1u}) {
    WriteCommon<uint32_t>(offsetof(Common, device_feature_select), word);
    features |= uint64_t{ReadCommon<uint32_t>(offsetof(Common, device_feature))} << (32 * word);
  }
  return features;
}

void VirtioPciDriver::SetDriverFeatures(uint64_t features) {
  for (const uint32_t word : {0u, 1u}) {
    WriteCommon<uint32_t>(offsetof(Common, driver_feature_select), word);
    WriteCommon<uint32_t>(offsetof(Common, driver_feature),
                          static_cast<uint32_t>(features >> (32 * word)));
  }
}

bool VirtioPciDriver::Negotiate(uint64_t features) {
  SetStatus(kVirtioStatusAcknowledge);
  SetStatus(kVirtioStatusAcknowledge | kVirtioStatusDriver);
  SetDriverFeatures(features);
  SetStatus(kVirtioStatusAcknowledge | kVirtioStatusDriver | kVirtioStatusFeaturesOk);
  return (status() & kVirtioStatusFeaturesOk) != 0;
}

void VirtioPciDriver::SetUpQueue(uint16_t queue, const VirtqueueLayout& layout, uint16_t vector) {
  WriteCommon<uint16_t>(offsetof(Common, queue_select), queue);
  WriteCommon<uint16_t>(offsetof(Common, queue_size), layout.size);
  WriteCommon<uint16_t>(offsetof(Common, queue_msix_vector), vector);
  const auto address = [this](uint64_t field, GuestAddress value) {
    WriteCommon<uint32_t>(field, static_cast<uint32_t>(value.raw()));
    WriteCommon<uint32_t>(field + 4, static_cast<uint32_t>(value.raw() >> 32));
  };
  address(offsetof(Common, queue_desc), layout.descriptor_table);
  address(offsetof(Common, queue_driver), layout.available_ring);
  address(offsetof(Common, queue_device), layout.used_ring);
}

void VirtioPciDriver::EnableQueue(uint16_t queue) {
  WriteCommon<uint16_t>(offsetof(Common, queue_select), queue);
  WriteCommon<uint16_t>(offsetof(Common, queue_enable), 1);
}

bool VirtioPciDriver::Reset(std::chrono::milliseconds limit) {
  SetStatus(0);
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (status() != 0) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

void VirtioPciDriver::EnableMsix(bool enable, bool function_mask) {
  machine_.WriteConfig<uint16_t>(
      device_, msix_ + 2u,
      static_cast<uint16_t>((enable ? 1u << 15 : 0) | (function_mask ? 1u << 14 : 0)));
}

void VirtioPciDriver::SetVector(unsigned vector, uint64_t address, uint32_t data, bool masked) {
  const uint64_t entry = msix_table_address() + 16 * vector;
  machine_.Write<uint32_t>(entry, static_cast<uint32_t>(address));
  machine_.Write<uint32_t>(entry + 4, static_cast<uint32_t>(address >> 32));
  machine_.Write<uint32_t>(entry + 8, data);
  machine_.Write<uint32_t>(entry + 12, masked ? 1 : 0);
}

}  // namespace pacsvisor
