#include "tests/support/pci_machine.h"

#include "devices/pci/pci_registers.h"

namespace pacsvisor {

PciMachine::PciMachine()
    : pci_(mmio_, {kMmio32Start, kMmio32SizeBytes},
           {GuestAddress(kMmio64Start), kMmio64SizeBytes}) {
  mmio_.Insert(kEcamStart.raw(), kEcamSizeBytes, pci_.ecam()).value();
  ports_.Insert(kPciPortsStart, kPciPortsSize, pci_.ports()).value();
}

std::vector<uint8_t> PciMachine::Capabilities(uint8_t device, uint8_t id) {
  std::vector<uint8_t> found;
  auto offset = ReadConfig<uint8_t>(device, kPciCapabilitiesPointer);
  for (int steps = 0; offset != 0; ++steps) {
    CHECK(steps < 48, "the capability list loops");
    if (ReadConfig<uint8_t>(device, offset) == id) {
      found.push_back(offset);
    }
    offset = ReadConfig<uint8_t>(device, offset + 1u);
  }
  return found;
}

void PciMachine::EnableMemory(uint8_t device, bool enable) {
  WriteConfig<uint16_t>(device, kPciCommand, enable ? kPciCommandMemory | kPciCommandBusMaster : 0);
}

uint64_t PciMachine::BarAddress(uint8_t device, unsigned index) {
  const uint32_t offset = kPciBar0 + 4 * index;
  return (uint64_t{ReadConfig<uint32_t>(device, offset + 4)} << 32 |
          ReadConfig<uint32_t>(device, offset)) &
         ~kPciBarFlagsMask;
}

void PciMachine::MoveBar(uint8_t device, unsigned index, uint64_t address) {
  const uint32_t offset = kPciBar0 + 4 * index;
  WriteConfig<uint32_t>(device, offset, static_cast<uint32_t>(address));
  WriteConfig<uint32_t>(device, offset + 4, static_cast<uint32_t>(address >> 32));
}

}  // namespace pacsvisor
