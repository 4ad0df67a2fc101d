#include "firmware/acpi/fixed_tables.h"

#include <algorithm>
#include <string_view>

#include "firmware/acpi/table.h"
#include "vmm/base/byte_order.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

// Offsets in the whole FADT (ACPI 6.4, table 5.33).
constexpr size_t kFadtBytes = 276;
constexpr uint8_t kFadtRevision = 6;
constexpr uint8_t kFadtMinorRevision = 3;
enum FadtOffset : size_t {
  kPreferredProfile = 45,
  kIapcBootArch = 109,
  kFadtFlags = 112,
  kResetRegister = 116,
  kResetValue = 128,
  kFadtMinor = 131,
  kXDsdt = 140,
  kSleepControl = 244,
  kSleepStatus = 256,
  kHypervisorVendor = 268,
};
constexpr uint8_t kProfileEnterpriseServer = 4;
// IA-PC boot architecture flags: bit 1 (8042), bit 3 (no MSI) and bit 5 (no CMOS RTC) stay clear.
constexpr uint16_t kNoVga = 1 << 2;
constexpr uint16_t kNoAspm = 1 << 4;
// Fixed feature flags (table 5.35).
constexpr uint32_t kWbinvd = 1 << 0;
constexpr uint32_t kControlMethodPowerButton = 1 << 4;
constexpr uint32_t kNoFixedSleepButton = 1 << 5;
constexpr uint32_t kNoFixedRtcWake = 1 << 6;
constexpr uint32_t kResetRegisterSupported = 1 << 10;
constexpr uint32_t kHardwareReduced = 1 << 20;
constexpr std::string_view kHypervisorName = "PACSVISR";

constexpr uint8_t kMadtRevision = 5;
enum MadtEntry : uint8_t {
  kLocalApic = 0,
  kIoapic = 1,
  kSourceOverride = 2,
  kLocalApicNmi = 4,
  kLocalX2Apic = 9,
  kLocalX2ApicNmi = 10,
};
constexpr uint32_t kProcessorEnabled = 1;
constexpr uint32_t kFirstX2ApicOnly = 255;    // 255 addresses all in an 8-bit identifier
constexpr uint16_t kActiveHighEdge = 0x0005;  // MPS INTI flags (table 5.55)
constexpr uint32_t kLegacyInterrupts = 16;
constexpr uint8_t kNmiLint = 1;

// Generic address structure (5.2.3.2): one byte in the port space.
void StorePortRegister(uint8_t* to, uint16_t port) {
  constexpr uint8_t kSystemIo = 1;
  constexpr uint8_t kByteAccess = 1;
  to[0] = kSystemIo;
  to[1] = 8;  // bits
  to[2] = 0;
  to[3] = kByteAccess;
  StoreLe(to + 4, uint64_t{port});
}

void Append(std::vector<uint8_t>& to, std::initializer_list<uint8_t> bytes) {
  to.insert(to.end(), bytes);
}

template <typename T>
void AppendLe(std::vector<uint8_t>& to, T value) {
  to.resize(to.size() + sizeof(T));
  StoreLe(&to[to.size() - sizeof(T)], value);
}

void AppendProcessor(std::vector<uint8_t>& body, uint32_t uid, uint32_t apic_id) {
  if (apic_id < kFirstX2ApicOnly) {
    Append(body, {kLocalApic, 8, static_cast<uint8_t>(uid), static_cast<uint8_t>(apic_id)});
    AppendLe(body, kProcessorEnabled);
  } else {
    Append(body, {kLocalX2Apic, 16, 0, 0});
    AppendLe(body, apic_id);
    AppendLe(body, kProcessorEnabled);
    AppendLe(body, uid);
  }
}

// Says what the guest could otherwise take for the ISA default or, for 9, for a level-triggered
// SCI.
void AppendEdgeOverride(std::vector<uint8_t>& body, Gsi gsi) {
  if (gsi.raw() < kLegacyInterrupts) {
    Append(body, {kSourceOverride, 10, 0, static_cast<uint8_t>(gsi.raw())});
    AppendLe(body, gsi.raw());
    AppendLe(body, kActiveHighEdge);
  }
}

}  // namespace

std::vector<uint8_t> BuildFadt(const PlatformDescription& platform, GuestAddress dsdt) {
  std::vector<uint8_t> body(kFadtBytes - kAcpiHeaderBytes);
  const auto at = [&body](size_t offset) { return &body[offset - kAcpiHeaderBytes]; };
  *at(kPreferredProfile) = kProfileEnterpriseServer;
  StoreLe(at(kIapcBootArch), static_cast<uint16_t>(kNoVga | kNoAspm));
  StoreLe(at(kFadtFlags), kWbinvd | kControlMethodPowerButton | kNoFixedSleepButton |
                              kNoFixedRtcWake | kResetRegisterSupported | kHardwareReduced);
  StorePortRegister(at(kResetRegister), platform.reset_port);
  *at(kResetValue) = platform.reset_value;
  *at(kFadtMinor) = kFadtMinorRevision;
  StoreLe(at(kXDsdt), dsdt.raw());
  StorePortRegister(at(kSleepControl), platform.sleep_control_port);
  StorePortRegister(at(kSleepStatus), platform.sleep_status_port);
  std::copy(kHypervisorName.begin(), kHypervisorName.end(), at(kHypervisorVendor));
  return AcpiTable("FACP", kFadtRevision, body);
}

std::vector<uint8_t> BuildMadt(const PlatformDescription& platform) {
  constexpr uint32_t kNo8259Pair = 0;  // PCAT_COMPAT
  constexpr uint8_t kIoapicId = 0;
  constexpr uint16_t kBusDefault = 0;  // an NMI's polarity and trigger: as the bus has it
  std::vector<uint8_t> body;
  AppendLe(body, static_cast<uint32_t>(platform.local_apic.raw()));
  AppendLe(body, kNo8259Pair);
  bool has_x2apic = false;
  for (uint32_t uid = 0; uid < platform.apic_ids.size(); ++uid) {
    CHECK(uid < kFirstX2ApicOnly || platform.apic_ids[uid] >= kFirstX2ApicOnly,
          "processor {} has the 8-bit APIC identifier {}", uid, platform.apic_ids[uid]);
    AppendProcessor(body, uid, platform.apic_ids[uid]);
    has_x2apic = has_x2apic || platform.apic_ids[uid] >= kFirstX2ApicOnly;
  }
  Append(body, {kIoapic, 12, kIoapicId, 0});
  AppendLe(body, static_cast<uint32_t>(platform.ioapic.raw()));
  AppendLe(body, uint32_t{0});  // its first GSI
  AppendEdgeOverride(body, platform.com1_gsi);
  AppendEdgeOverride(body, platform.ged_gsi);
  Append(body, {kLocalApicNmi, 6, 0xff});  // all processors
  AppendLe(body, kBusDefault);
  Append(body, {kNmiLint});
  if (has_x2apic) {
    Append(body, {kLocalX2ApicNmi, 12});
    AppendLe(body, kBusDefault);
    AppendLe(body, uint32_t{0xffff'ffff});  // all processors
    Append(body, {kNmiLint, 0, 0, 0});
  }
  return AcpiTable("APIC", kMadtRevision, body);
}

std::vector<uint8_t> BuildMcfg(const PlatformDescription& platform) {
  constexpr uint8_t kMcfgRevision = 1;
  const uint64_t buses = platform.ecam.size_bytes >> 20;  // 1 MiB a bus
  CHECK(buses >= 1 && buses <= 256, "{} buses", buses);
  std::vector<uint8_t> body;
  AppendLe(body, uint64_t{0});  // reserved
  AppendLe(body, platform.ecam.start.raw());
  AppendLe(body, uint16_t{0});                         // segment
  Append(body, {0, static_cast<uint8_t>(buses - 1)});  // first and last bus
  AppendLe(body, uint32_t{0});                         // reserved
  return AcpiTable("MCFG", kMcfgRevision, body);
}

std::vector<uint8_t> BuildXsdt(std::span<const GuestAddress> tables) {
  constexpr uint8_t kXsdtRevision = 1;
  std::vector<uint8_t> body;
  for (const GuestAddress table : tables) {
    AppendLe(body, table.raw());
  }
  return AcpiTable("XSDT", kXsdtRevision, body);
}

std::vector<uint8_t> BuildRsdp(GuestAddress xsdt) {
  constexpr std::string_view kSignature = "RSD PTR ";
  constexpr size_t kFirstVersionBytes = 20;  // what the first checksum covers
  constexpr size_t kBytes = 36;
  std::vector<uint8_t> rsdp(kBytes);
  std::copy(kSignature.begin(), kSignature.end(), rsdp.begin());
  std::copy(kAcpiOemId.begin(), kAcpiOemId.end(), rsdp.begin() + 9);
  rsdp[15] = 2;  // revision
  StoreLe(&rsdp[20], static_cast<uint32_t>(kBytes));
  StoreLe(&rsdp[24], xsdt.raw());
  rsdp[8] = AcpiChecksum(std::span(rsdp).first(kFirstVersionBytes));
  rsdp[32] = AcpiChecksum(rsdp);
  return rsdp;
}

}  // namespace pacsvisor
