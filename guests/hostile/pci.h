// The virtio functions of PCI bus 0, found through ECAM, and how they were before anything was done
// to them.
#pragma once

#include <cstdint>

#include "devices/virtio/virtio_pci_registers.h"

namespace pacsvisor::hostile {

inline constexpr uint64_t kEcam = 0xe000'0000;  // as the ACPI MCFG of pacsvisor says
inline constexpr uint64_t kEcamBytes = 0x10'0000;
inline constexpr uint64_t kConfigBytes = 4096;
inline constexpr unsigned kMaxFunctions = 32;

// virtio 1.2, section 5.
enum class Type : uint16_t { kNet = 1, kBlock = 2, kConsole = 3, kRng = 4 };

struct Function {
  uint64_t config = 0;  // its configuration space in ECAM
  bool is_virtio = false;
  Type type = Type::kNet;
  uint32_t bars[6] = {};  // as they were
  uint16_t command = 0;
  // Addresses of the structures that its capabilities name.
  uint64_t common = 0;
  uint64_t notify = 0;
  uint64_t isr = 0;
  uint64_t device = 0;
  uint64_t msix_table = 0;
  uint32_t notify_multiplier = 0;
  uint8_t msix = 0;           // offset of the capability in configuration space
  uint8_t config_access = 0;  // the same
  uint16_t vectors = 0;

  uint64_t Bar(unsigned index) const {
    return (bars[index] & ~uint64_t{0xf}) | uint64_t{bars[index + 1]} << 32;
  }
};

struct Functions {
  Function all[kMaxFunctions];  // the host bridge among them
  unsigned count = 0;
  // The first of the type; null where there is none.
  const Function* Find(Type type) const;
};

void FindFunctions(Functions& functions);
// Every BAR where it was, MSI-X off and masked, every device reset. False: one does not come back.
bool RestoreFunctions(const Functions& functions);

}  // namespace pacsvisor::hostile
