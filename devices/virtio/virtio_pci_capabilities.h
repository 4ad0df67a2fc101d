// The capabilities of a virtio PCI function (virtio 1.2, 4.1.4; PCI Local Bus 3.0, 6.8.2).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "devices/pci/pci_function.h"

namespace pacsvisor {

inline constexpr unsigned kVirtioConfigBar = 0;
inline constexpr unsigned kVirtioMsixBar = 2;

// Where in configuration space the two capabilities lie that the guest writes to.
struct VirtioPciCapabilities {
  uint8_t msix = 0;
  uint8_t config_access = 0;
};

VirtioPciCapabilities AddVirtioPciCapabilities(PciFunction& function, unsigned vector_count);

// The MSI-X capability's message control (6.8.2.3), `capability` as in configuration space.
struct MsixControl {
  bool enabled = false;
  bool function_masked = false;
};
MsixControl ReadMsixControl(std::span<const uint8_t> capability);

// The window through which a driver without access to BARs reaches them (virtio 1.2, 4.1.4.9).
struct ConfigAccessWindow {
  uint8_t bar = 0;
  uint32_t offset = 0;
  uint32_t length_bytes = 0;
};
// None when the driver set it to what it must not: a length but 1, 2 or 4, a misaligned offset.
std::optional<ConfigAccessWindow> ReadConfigAccessWindow(std::span<const uint8_t> capability);
// Offset of the window's data in its capability, and its size.
inline constexpr uint32_t kConfigAccessData = 16;
inline constexpr uint32_t kConfigAccessDataBytes = 4;

}  // namespace pacsvisor
