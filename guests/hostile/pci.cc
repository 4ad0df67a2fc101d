#include "guests/hostile/pci.h"

#include "devices/pci/pci_registers.h"
#include "guests/hostile/device_access.h"
#include "guests/hostile/driver.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint16_t kNoVendor = 0xffff;
constexpr uint32_t kMsixEntryBytes = 16;
constexpr uint32_t kMsixVectorControl = 12;
constexpr uint64_t kPatienceCycles = uint64_t{10} * kCyclesPerSecond;

void ReadCapability(Function& function, uint8_t at) {
  const uint64_t capability = function.config + at;
  const uint8_t id = Read8(capability);
  if (id == kPciCapabilityMsix) {
    function.msix = at;
    function.vectors = static_cast<uint16_t>((Read16(capability + 2) & 0x7ff) + 1);
    const uint32_t table = Read32(capability + 4);
    function.msix_table = function.Bar(table & 7) + (table & ~7u);
    return;
  }
  if (id != kPciCapabilityVendor) return;
  const uint64_t address =
      function.Bar(Read8(capability + offsetof(VirtioPciCapability, bar)) % 6) +
      Read32(capability + offsetof(VirtioPciCapability, offset));
  switch (static_cast<VirtioPciCapabilityType>(
      Read8(capability + offsetof(VirtioPciCapability, type)))) {
    case VirtioPciCapabilityType::kCommonConfig:
      function.common = address;
      break;
    case VirtioPciCapabilityType::kNotify:
      function.notify = address;
      function.notify_multiplier = Read32(capability + kVirtioPciCapabilityExtra);
      break;
    case VirtioPciCapabilityType::kIsr:
      function.isr = address;
      break;
    case VirtioPciCapabilityType::kDeviceConfig:
      function.device = address;
      break;
    case VirtioPciCapabilityType::kPciConfigAccess:
      function.config_access = at;
      break;
  }
}

void ReadFunction(Function& function) {
  function.command = Read16(function.config + kPciCommand);
  for (unsigned i = 0; i < 6; ++i) function.bars[i] = Read32(function.config + kPciBar0 + 4 * i);
  const uint16_t id = Read16(function.config + kPciDeviceId);
  function.is_virtio = Read16(function.config + kPciVendorId) == kVirtioPciVendor;
  if (!function.is_virtio) return;
  function.type = static_cast<Type>(id - kVirtioPciModernDeviceBase);
  uint8_t at = Read8(function.config + kPciCapabilitiesPointer);
  for (unsigned i = 0; at != 0 && i < 32; ++i) {
    ReadCapability(function, at);
    at = Read8(function.config + at + 1);
  }
}

void MaskVectors(const Function& function) {
  Write16(function.config + function.msix + 2, 0);
  for (uint16_t i = 0; i < function.vectors; ++i) {
    Write32(function.msix_table + kMsixEntryBytes * i + kMsixVectorControl, 1);
  }
}

}  // namespace

const Function* Functions::Find(Type type) const {
  for (unsigned i = 0; i < count; ++i) {
    if (all[i].is_virtio && all[i].type == type) return &all[i];
  }
  return nullptr;
}

void FindFunctions(Functions& functions) {
  functions.count = 0;
  for (uint64_t device = 0; device < kMaxFunctions; ++device) {
    Function& function = functions.all[functions.count];
    function.config = kEcam + (device << 15);
    if (Read16(function.config + kPciVendorId) == kNoVendor) continue;
    ReadFunction(function);
    ++functions.count;
  }
}

bool RestoreFunctions(const Functions& functions) {
  // All leave before one comes: they may lie in each other's places.
  for (unsigned i = 0; i < functions.count; ++i) {
    Write16(functions.all[i].config + kPciCommand, 0);
  }
  for (unsigned i = 0; i < functions.count; ++i) {
    const Function& function = functions.all[i];
    for (unsigned bar = 0; bar < 6; ++bar) {
      Write32(function.config + kPciBar0 + 4 * bar, function.bars[bar]);
    }
    Write16(function.config + kPciCommand, function.command | kPciCommandMemory);
  }
  bool restored = true;
  for (unsigned i = 0; i < functions.count; ++i) {
    if (!functions.all[i].is_virtio) continue;
    MaskVectors(functions.all[i]);
    Driver driver(functions.all[i]);
    restored = driver.Reset(kPatienceCycles) && restored;
  }
  return restored;
}

}  // namespace pacsvisor::hostile
