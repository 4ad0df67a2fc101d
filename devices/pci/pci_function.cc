#include "devices/pci/pci_function.h"

#include <algorithm>
#include <utility>

#include "devices/pci/pci_registers.h"
#include "vmm/base/align.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kPciFunctionStateVersion = 1;

bool Is64Bit(PciBarKind kind) { return kind != PciBarKind::kMemory32; }

uint32_t BarFlags(PciBarKind kind) {
  switch (kind) {
    case PciBarKind::kMemory32:
      return 0;
    case PciBarKind::kMemory64:
      return kPciBarMemory64;
    case PciBarKind::kMemory64Prefetchable:
      return kPciBarMemory64 | kPciBarPrefetchable;
  }
  CHECK(false, "BAR kind {}", static_cast<int>(kind));
}

bool Overlap(uint32_t a, size_t a_size, uint32_t b, size_t b_size) {
  return a < b + b_size && b < a + a_size;
}

}  // namespace

PciFunction::PciFunction(std::string name, const PciIdentity& identity)
    : name_(std::move(name)), next_capability_(kPciHeaderEnd), last_link_(kPciCapabilitiesPointer) {
  StoreLe<uint16_t>(&config_[kPciVendorId], identity.vendor);
  StoreLe<uint16_t>(&config_[kPciDeviceId], identity.device);
  config_[kPciRevisionId] = identity.revision;
  config_[kPciClassCode] = static_cast<uint8_t>(identity.class_code);
  StoreLe<uint16_t>(&config_[kPciClassCode + 1], static_cast<uint16_t>(identity.class_code >> 8));
  StoreLe<uint16_t>(&config_[kPciSubsystemVendorId], identity.subsystem_vendor);
  StoreLe<uint16_t>(&config_[kPciSubsystemId], identity.subsystem);
  StoreLe<uint16_t>(&writable_[kPciCommand],
                    kPciCommandMemory | kPciCommandBusMaster | kPciCommandInterruptDisable);
  // For software's own use (6.2.4, 6.2.1).
  writable_[kPciInterruptLine] = 0xff;
  writable_[kPciCacheLineSize] = 0xff;
}

PciFunction::~PciFunction() {
  for (unsigned i = 0; i < kPciBarCount; ++i) {
    if (bars_[i].mapped.has_value()) {
      mmio_->Remove(*bars_[i].mapped);
    }
  }
}

void PciFunction::AddBar(unsigned index, PciBarKind kind, uint64_t size_bytes, BusDevice& device) {
  const unsigned registers = Is64Bit(kind) ? 2 : 1;
  CHECK(index + registers <= kPciBarCount, "{}: BAR {}", name_, index);
  CHECK(IsPowerOfTwo(size_bytes) && size_bytes >= 16, "{}: BAR of {} bytes", name_, size_bytes);
  CHECK(Is64Bit(kind) || size_bytes <= kGiB, "{}: BAR of {} bytes", name_, size_bytes);
  for (unsigned i = index; i < index + registers; ++i) {
    CHECK(LoadLe<uint32_t>(&writable_[kPciBar0 + 4 * i]) == 0, "{}: BAR {} twice", name_, i);
  }
  bars_[index] = {.kind = kind, .size_bytes = size_bytes, .device = &device};
  const uint64_t mask = ~(size_bytes - 1);
  const uint32_t offset = kPciBar0 + 4 * index;
  StoreLe<uint32_t>(&config_[offset], BarFlags(kind));
  StoreLe<uint32_t>(&writable_[offset], static_cast<uint32_t>(mask));
  if (Is64Bit(kind)) {
    StoreLe<uint32_t>(&writable_[offset + 4], static_cast<uint32_t>(mask >> 32));
  }
}

uint8_t PciFunction::AddCapability(uint8_t id, std::span<const uint8_t> bytes,
                                   std::span<const uint8_t> writable) {
  const uint32_t offset = next_capability_;
  const auto size_bytes = static_cast<uint32_t>(bytes.size()) + 2;
  CHECK(writable.size() == bytes.size(), "{}: {} masks for {} bytes", name_, writable.size(),
        bytes.size());
  CHECK(offset + size_bytes <= kPciConventionalConfigBytes, "{}: too many capabilities", name_);
  config_[offset] = id;
  std::ranges::copy(bytes, &config_[offset + 2]);
  std::ranges::copy(writable, &writable_[offset + 2]);
  config_[last_link_] = static_cast<uint8_t>(offset);
  last_link_ = offset + 1;
  next_capability_ = AlignUp(offset + size_bytes, 4u);
  StoreLe<uint16_t>(&config_[kPciStatus], kPciStatusCapabilities);
  capabilities_.push_back({offset, size_bytes});
  return static_cast<uint8_t>(offset);
}

template <typename Hook>
void PciFunction::ForEachCapability(uint32_t offset, size_t size_bytes, Hook hook) {
  for (const Capability& capability : capabilities_) {
    if (Overlap(offset, size_bytes, capability.offset, capability.size_bytes)) {
      const uint32_t first = std::max(offset, capability.offset);
      const size_t end =
          std::min<size_t>(offset + size_bytes, capability.offset + capability.size_bytes);
      hook(static_cast<uint8_t>(capability.offset), first - capability.offset, end - first);
    }
  }
}

void PciFunction::ReadConfig(uint32_t offset, std::span<uint8_t> data) {
  CHECK(offset <= kPciConfigSpaceBytes && data.size() <= kPciConfigSpaceBytes - offset);
  ForEachCapability(offset, data.size(), [this](uint8_t capability, uint32_t first, size_t count) {
    OnCapabilityRead(capability, first, count);
  });
  std::copy_n(config_.begin() + offset, data.size(), data.begin());
}

void PciFunction::CountReadOnlyWrite(uint32_t offset, std::span<const uint8_t> data) {
  bool writable = false;
  bool changes = false;
  for (size_t i = 0; i < data.size(); ++i) {
    writable = writable || writable_[offset + i] != 0;
    changes = changes || config_[offset + i] != data[i];
  }
  if (!writable && changes) {
    faults_.Count(GuestFault::kConfigReadOnly);
  }
}

void PciFunction::WriteConfig(uint32_t offset, std::span<const uint8_t> data) {
  CHECK(offset <= kPciConfigSpaceBytes && data.size() <= kPciConfigSpaceBytes - offset);
  CountReadOnlyWrite(offset, data);
  for (size_t i = 0; i < data.size(); ++i) {
    const uint8_t mask = writable_[offset + i];
    config_[offset + i] = static_cast<uint8_t>((config_[offset + i] & ~mask) | (data[i] & mask));
  }
  if (Overlap(offset, data.size(), kPciCommand, 2) ||
      Overlap(offset, data.size(), kPciBar0, 4 * kPciBarCount)) {
    UpdateBars();
  }
  ForEachCapability(offset, data.size(), [this](uint8_t capability, uint32_t first, size_t count) {
    OnCapabilityWrite(capability, first, count);
  });
}

void PciFunction::AssignBar(unsigned index, uint64_t address) {
  const Bar& bar = bars_.at(index);
  CHECK(bar.size_bytes != 0 && IsAligned(address, bar.size_bytes), "{}: BAR {} at {:#x}", name_,
        index, address);
  const uint32_t offset = kPciBar0 + 4 * index;
  StoreLe<uint32_t>(&config_[offset], static_cast<uint32_t>(address) | BarFlags(bar.kind));
  if (Is64Bit(bar.kind)) {
    StoreLe<uint32_t>(&config_[offset + 4], static_cast<uint32_t>(address >> 32));
  }
  UpdateBars();
}

std::optional<uint64_t> PciFunction::WantedAddress(unsigned index) const {
  const Bar& bar = bars_[index];
  if (bar.size_bytes == 0 || mmio_ == nullptr ||
      (LoadLe<uint16_t>(&config_[kPciCommand]) & kPciCommandMemory) == 0) {
    return std::nullopt;
  }
  const uint32_t offset = kPciBar0 + 4 * index;
  const uint64_t raw =
      Is64Bit(bar.kind) ? LoadLe<uint64_t>(&config_[offset]) : LoadLe<uint32_t>(&config_[offset]);
  const uint64_t address = raw & ~kPciBarFlagsMask;
  // All ones is how software asks for the size (6.2.5.1); zero is a BAR not placed.
  const uint64_t all_ones = Is64Bit(bar.kind) ? ~uint64_t{0} : 0xffff'ffff;
  if (address == 0 || address == (all_ones & ~(bar.size_bytes - 1))) {
    return std::nullopt;
  }
  return address;
}

void PciFunction::Unmap(unsigned index) {
  mmio_->Remove(*bars_[index].mapped);
  bars_[index].mapped.reset();
  OnBarMoved(index, std::nullopt);
}

bool PciFunction::Map(unsigned index, uint64_t address, GuestFault& refused) {
  Bar& bar = bars_[index];
  const Status inserted = mmio_->Insert(address, bar.size_bytes, *bar.device);
  if (!inserted.ok()) {
    log_.Log(LogLevel::kDebug, "{}: BAR {} does not answer: {}", name_, index,
             inserted.error().message());
    const ErrorCode code = inserted.error().code();
    refused = code == ErrorCode::kBusy               ? GuestFault::kBarOverlap
              : code == ErrorCode::kPermissionDenied ? GuestFault::kBarOverMemory
                                                     : GuestFault::kBarOutsideSpace;
    return false;
  }
  bar.mapped = address;
  OnBarMoved(index, address);
  return true;
}

void PciFunction::UpdateBars() {
  // All leave before one comes, so that BARs of one function may swap places.
  for (unsigned i = 0; i < kPciBarCount; ++i) {
    if (bars_[i].mapped.has_value() && bars_[i].mapped != WantedAddress(i)) {
      Unmap(i);
    }
  }
  for (unsigned i = 0; i < kPciBarCount; ++i) {
    const std::optional<uint64_t> wanted = WantedAddress(i);
    GuestFault refused = GuestFault::kBarOverlap;
    if (wanted.has_value() && !bars_[i].mapped.has_value() && !Map(i, *wanted, refused)) {
      faults_.Count(refused);
    }
  }
}

void PciFunction::RetryBars() {
  for (unsigned i = 0; i < kPciBarCount; ++i) {
    const std::optional<uint64_t> wanted = WantedAddress(i);
    GuestFault refused = GuestFault::kBarOverlap;
    if (wanted.has_value() && !bars_[i].mapped.has_value()) {
      Map(i, *wanted, refused);
    }
  }
}

void PciFunction::SaveConfig(StateNode& node) const {
  node.SetVersion(kPciFunctionStateVersion);
  node.SetString("name", name_);
  node.SetBytes("config", config_);
}

Status PciFunction::LoadConfig(const StateNode& node) {
  TRY(node.Version(kPciFunctionStateVersion));
  const std::string saved_name = TRY(node.String("name"));
  if (saved_name != name_) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: PCI function '{}' is not '{}'",
                       saved_name, name_);
  }
  const std::span<const uint8_t> saved = TRY(node.BytesOf("config", kPciConfigSpaceBytes));
  for (size_t i = 0; i < saved.size(); ++i) {
    if (((saved[i] ^ config_[i]) & ~writable_[i]) != 0) {
      return Error::Make(ErrorCode::kUnsupported,
                         "saved state: {} is another function (configuration byte {:#x})", name_,
                         i);
    }
  }
  std::ranges::copy(saved, config_.begin());
  UpdateBars();
  OnConfigLoaded();
  return {};
}

}  // namespace pacsvisor
