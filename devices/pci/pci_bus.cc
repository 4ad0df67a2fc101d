#include "devices/pci/pci_bus.h"

#include <algorithm>

#include "devices/pci/pci_registers.h"
#include "vmm/base/align.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kPciBusStateVersion = 1;
// Red Hat's identifiers for a generic PCI Express host bridge.
constexpr PciIdentity kHostBridge = {.vendor = 0x1b36,
                                     .device = 0x0008,
                                     .revision = 0,
                                     .class_code = 0x060000,
                                     .subsystem_vendor = 0x1af4,
                                     .subsystem = 0x1100};

// CONFIG_ADDRESS (PCI Local Bus 3.0, 3.2.2.3.2).
constexpr uint32_t kConfigAddressEnable = 1u << 31;
constexpr uint32_t kConfigAddressMask = 0x80ff'fffc;
constexpr uint64_t kConfigDataOffset = 4;
constexpr uint64_t kResetControlOffset = 1;  // port 0xcf9

// What PciFunction takes next of an access that may have any size and alignment.
size_t NextPiece(uint64_t offset, size_t left) {
  for (const size_t size : {size_t{4}, size_t{2}}) {
    if (left >= size && offset % size == 0) {
      return size;
    }
  }
  return 1;
}

}  // namespace

PciBus::PciBus(Bus& mmio, const MemoryRegion& window32, const MemoryRegion& window64)
    : mmio_(mmio),
      window32_{window32.start.raw(), window32.start.raw() + window32.size_bytes},
      window64_{window64.start.raw(), window64.start.raw() + window64.size_bytes},
      host_bridge_(std::make_unique<PciFunction>("host bridge", kHostBridge)) {
  devices_[0] = host_bridge_.get();
}

PciBus::~PciBus() = default;

std::optional<uint64_t> PciBus::Window::Take(uint64_t size_bytes) {
  const uint64_t start = AlignUp(next, size_bytes);
  if (start < next || start >= end || size_bytes > end - start) {
    return std::nullopt;
  }
  next = start + size_bytes;
  return start;
}

Result<uint8_t> PciBus::Add(PciFunction& function) {
  const MutexLock lock(mutex_);
  const auto slot = std::ranges::find(devices_, nullptr);
  if (slot == devices_.end()) {
    return Error::Make(ErrorCode::kNoSpace,
                       "{}: the PCI bus has room for {} devices and is full: configure fewer",
                       function.name(), kMaxDevices);
  }
  function.AttachMmio(mmio_);
  for (unsigned i = 0; i < kPciBarCount; ++i) {
    const PciFunction::Bar& bar = function.bars()[i];
    if (bar.size_bytes == 0) {
      continue;
    }
    Window& window = bar.kind == PciBarKind::kMemory32 ? window32_ : window64_;
    const std::optional<uint64_t> address = window.Take(bar.size_bytes);
    if (!address.has_value()) {
      return Error::Make(ErrorCode::kNoSpace, "{}: no address space is left for {} bytes of BAR {}",
                         function.name(), bar.size_bytes, i);
    }
    function.AssignBar(i, *address);
  }
  *slot = &function;
  return static_cast<uint8_t>(slot - devices_.begin());
}

PciFunction* PciBus::FunctionAt(uint64_t ecam_offset) const {
  // PCI Express Base 5.0, table 7-1: bus 27:20, device 19:15, function 14:12, register 11:0.
  const uint64_t device = ecam_offset >> 15;
  const uint64_t function = (ecam_offset >> 12) & 7;
  if (device >= kMaxDevices) {
    faults_.Count(GuestFault::kConfigBeyondBus);
    return nullptr;
  }
  return function == 0 ? devices_[device] : nullptr;
}

void PciBus::ReadConfig(uint64_t ecam_offset, std::span<uint8_t> data) {
  const MutexLock lock(mutex_);
  while (!data.empty()) {
    const size_t size = NextPiece(ecam_offset, data.size());
    const std::span<uint8_t> piece = data.first(size);
    PciFunction* function = FunctionAt(ecam_offset);
    if (function != nullptr) {
      function->ReadConfig(static_cast<uint32_t>(ecam_offset % kPciConfigSpaceBytes), piece);
    } else {
      std::ranges::fill(piece, uint8_t{0xff});
    }
    data = data.subspan(size);
    ecam_offset += size;
  }
}

void PciBus::WriteConfig(uint64_t ecam_offset, std::span<const uint8_t> data) {
  const MutexLock lock(mutex_);
  while (!data.empty()) {
    const size_t size = NextPiece(ecam_offset, data.size());
    const auto offset = static_cast<uint32_t>(ecam_offset % kPciConfigSpaceBytes);
    if (PciFunction* function = FunctionAt(ecam_offset)) {
      function->WriteConfig(offset, data.first(size));
      if (offset < kPciHeaderEnd) {
        for (PciFunction* other : devices_) {
          if (other != nullptr) {
            other->RetryBars();
          }
        }
      }
    }
    data = data.subspan(size);
    ecam_offset += size;
  }
}

void PciBus::Ecam::Read(uint64_t offset, std::span<uint8_t> data) { bus_.ReadConfig(offset, data); }

void PciBus::Ecam::Write(uint64_t offset, std::span<const uint8_t> data) {
  bus_.WriteConfig(offset, data);
}

std::optional<uint64_t> PciBus::Ports::Target(uint64_t offset) const {
  const MutexLock lock(bus_.mutex_);
  if ((bus_.config_address_ & kConfigAddressEnable) == 0) {
    return std::nullopt;
  }
  // Bus, device and function lie 4 bits further up in ECAM; the register has 8 bits here, 12 there.
  const uint64_t address = bus_.config_address_ & ~kConfigAddressEnable;
  return ((address >> 8) << 12) + (address & 0xfc) + (offset - kConfigDataOffset);
}

void PciBus::Ports::Read(uint64_t offset, std::span<uint8_t> data) {
  if (offset >= kConfigDataOffset) {
    if (const std::optional<uint64_t> target = Target(offset)) {
      bus_.ReadConfig(*target, data);
      return;
    }
  } else if (offset == 0 && data.size() == 4) {
    const MutexLock lock(bus_.mutex_);
    StoreLe<uint32_t>(data.data(), bus_.config_address_);
    return;
  } else if (offset == kResetControlOffset && data.size() == 1 && bus_.reset_control_ != nullptr) {
    bus_.reset_control_->Read(0, data);
    return;
  }
  std::ranges::fill(data, uint8_t{0xff});
}

void PciBus::Ports::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset >= kConfigDataOffset) {
    if (const std::optional<uint64_t> target = Target(offset)) {
      bus_.WriteConfig(*target, data);
    }
  } else if (offset == 0 && data.size() == 4) {
    // The latch takes double words only; smaller accesses belong to other devices.
    const MutexLock lock(bus_.mutex_);
    bus_.config_address_ = LoadLe<uint32_t>(data.data()) & kConfigAddressMask;
  } else if (offset == kResetControlOffset && data.size() == 1 && bus_.reset_control_ != nullptr) {
    bus_.reset_control_->Write(0, data);
  }
}

void PciBus::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  node.SetVersion(kPciBusStateVersion);
  node.SetU64("config_address", config_address_);
  for (const PciFunction* function : devices_) {
    if (function != nullptr) {
      function->SaveConfig(node.AppendTo("functions"));
    }
  }
}

Status PciBus::Load(const StateNode& node) {
  const MutexLock lock(mutex_);
  TRY(node.Version(kPciBusStateVersion));
  config_address_ = TRY(node.Get<uint32_t>("config_address")) & kConfigAddressMask;
  const std::span<const StateNode> saved = TRY(node.Children("functions"));
  const auto count = devices_.size() - std::ranges::count(devices_, nullptr);
  if (saved.size() != static_cast<size_t>(count)) {
    return Error::Make(ErrorCode::kCorrupt,
                       "saved state: {} PCI functions, but this machine has {}", saved.size(),
                       count);
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    TRY(devices_[i]->LoadConfig(saved[i]));
  }
  // Functions may have taken the places of others that were loaded after them.
  for (PciFunction* function : devices_) {
    if (function != nullptr) {
      function->RetryBars();
    }
  }
  return {};
}

}  // namespace pacsvisor
