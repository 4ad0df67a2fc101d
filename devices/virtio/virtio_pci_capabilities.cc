#include "devices/virtio/virtio_pci_capabilities.h"

#include <cstring>
#include <vector>

#include "devices/pci/msix_table.h"
#include "devices/pci/pci_registers.h"
#include "devices/virtio/virtio_pci_registers.h"
#include "devices/virtio/virtio_pci_transport.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

using Transport = VirtioPciTransport;

constexpr uint32_t kMsixControl = 2;  // offset in the capability
constexpr uint16_t kMsixEnable = 1u << 15;
constexpr uint16_t kMsixFunctionMask = 1u << 14;
// PciFunction writes the two header bytes itself.
constexpr uint32_t kHeaderBytes = 2;

struct Structure {
  VirtioPciCapabilityType type;
  uint32_t offset;
  uint32_t length_bytes;
};

uint8_t AddVendorCapability(PciFunction& function, const Structure& structure,
                            std::span<const uint8_t> extra, bool window) {
  const VirtioPciCapability capability{
      .length = static_cast<uint8_t>(sizeof(VirtioPciCapability) + extra.size()),
      .type = static_cast<uint8_t>(structure.type),
      .bar = kVirtioConfigBar,
      .offset = structure.offset,
      .length_bytes = structure.length_bytes};
  std::vector<uint8_t> bytes(sizeof(capability));
  std::memcpy(bytes.data(), &capability, sizeof(capability));
  bytes.insert(bytes.end(), extra.begin(), extra.end());
  std::vector<uint8_t> writable(bytes.size());
  if (window) {
    writable[offsetof(VirtioPciCapability, bar)] = 0xff;
    for (size_t i = offsetof(VirtioPciCapability, offset); i < writable.size(); ++i) {
      writable[i] = 0xff;
    }
  }
  return function.AddCapability(kPciCapabilityVendor, std::span(bytes).subspan(kHeaderBytes),
                                std::span(writable).subspan(kHeaderBytes));
}

uint8_t AddMsixCapability(PciFunction& function, unsigned vector_count) {
  uint8_t bytes[10] = {};
  uint8_t writable[10] = {};
  StoreLe<uint16_t>(bytes, static_cast<uint16_t>(vector_count - 1));
  StoreLe<uint32_t>(bytes + 2, kVirtioMsixBar);
  StoreLe<uint32_t>(bytes + 6, MsixTable::kPendingOffset | kVirtioMsixBar);
  StoreLe<uint16_t>(writable, kMsixEnable | kMsixFunctionMask);
  return function.AddCapability(kPciCapabilityMsix, bytes, writable);
}

}  // namespace

VirtioPciCapabilities AddVirtioPciCapabilities(PciFunction& function, unsigned vector_count) {
  VirtioPciCapabilities added;
  added.msix = AddMsixCapability(function, vector_count);
  AddVendorCapability(function,
                      {VirtioPciCapabilityType::kCommonConfig, Transport::kCommonOffset,
                       sizeof(VirtioPciCommonConfig)},
                      {}, false);
  AddVendorCapability(function, {VirtioPciCapabilityType::kIsr, Transport::kIsrOffset, 1}, {},
                      false);
  AddVendorCapability(function,
                      {VirtioPciCapabilityType::kDeviceConfig, Transport::kDeviceConfigOffset,
                       Transport::kNotifyOffset - Transport::kDeviceConfigOffset},
                      {}, false);
  uint8_t multiplier[4];
  StoreLe<uint32_t>(multiplier, Transport::kNotifyStrideBytes);
  AddVendorCapability(function,
                      {VirtioPciCapabilityType::kNotify, Transport::kNotifyOffset,
                       static_cast<uint32_t>(Transport::kBarSizeBytes - Transport::kNotifyOffset)},
                      multiplier, false);
  const uint8_t data[kConfigAccessDataBytes] = {};
  added.config_access =
      AddVendorCapability(function, {VirtioPciCapabilityType::kPciConfigAccess, 0, 0}, data, true);
  return added;
}

MsixControl ReadMsixControl(std::span<const uint8_t> capability) {
  const auto control = LoadLe<uint16_t>(&capability[kMsixControl]);
  return {.enabled = (control & kMsixEnable) != 0,
          .function_masked = (control & kMsixFunctionMask) != 0};
}

std::optional<ConfigAccessWindow> ReadConfigAccessWindow(std::span<const uint8_t> capability) {
  const ConfigAccessWindow window{
      .bar = capability[offsetof(VirtioPciCapability, bar)],
      .offset = LoadLe<uint32_t>(&capability[offsetof(VirtioPciCapability, offset)]),
      .length_bytes = LoadLe<uint32_t>(&capability[offsetof(VirtioPciCapability, length_bytes)])};
  const uint32_t length = window.length_bytes;
  if ((length != 1 && length != 2 && length != 4) || window.offset % length != 0) {
    return std::nullopt;
  }
  return window;
}

}  // namespace pacsvisor
