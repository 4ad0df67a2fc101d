#include "firmware/acpi/dsdt.h"

#include <fmt/core.h>

#include "firmware/acpi/aml.h"
#include "firmware/acpi/aml_resources.h"
#include "firmware/acpi/table.h"

namespace pacsvisor {
namespace {

using aml::Bytes;

constexpr uint8_t kDsdtRevision = 2;  // from 2 on AML's integers have 64 bits (19.6.30)
constexpr uint8_t kEcamBytesPerBusShift = 20;

// _OSC of a PCI host bridge (PCI Firmware Specification 3.3, 4.5).
constexpr std::string_view kOscPciUuid = "33db4d5b-1ff7-401c-9657-7441c03dd766";
constexpr uint64_t kOscUnknownUuid = 0x04;
constexpr uint64_t kOscUnknownRevision = 0x08;
constexpr uint64_t kOscMasked = 0x10;
// No slot has hot plug, and no port reports errors or power events: what is left is the control of
// the PCI Express capability structures.
constexpr uint64_t kOscControlGranted = 0x10;

Bytes OscMethod() {
  const Bytes status = aml::Path("CDW1");
  const Bytes control = aml::Path("CDW3");
  const auto set_status = [&](uint64_t bit) { return aml::Or(status, aml::Integer(bit), status); };
  return aml::Method(
      "_OSC", 4, aml::Serialization::kSerialized,
      {aml::CreateDwordField(aml::Argument(3), 0, "CDW1"),
       aml::If(aml::Equal(aml::Argument(0), aml::Uuid(kOscPciUuid)),
               {aml::CreateDwordField(aml::Argument(3), 8, "CDW3"),
                aml::And(control, aml::Integer(kOscControlGranted), aml::Local(0)),
                aml::If(aml::NotEqual(aml::Argument(1), aml::Integer(1)),
                        {set_status(kOscUnknownRevision)}),
                aml::If(aml::NotEqual(aml::Local(0), control), {set_status(kOscMasked)}),
                aml::Store(aml::Local(0), control)}),
       aml::Else({set_status(kOscUnknownUuid)}), aml::Return(aml::Argument(3))});
}

Bytes PciRoot(const PlatformDescription& platform) {
  const auto buses = static_cast<uint16_t>(platform.ecam.size_bytes >> kEcamBytesPerBusShift);
  return aml::Device(
      "PCI0", {aml::Name("_HID", aml::EisaId("PNP0A08")), aml::Name("_CID", aml::EisaId("PNP0A03")),
               aml::Name("_UID", aml::Integer(0)), aml::Name("_SEG", aml::Integer(0)),
               aml::Name("_BBN", aml::Integer(0)),
               aml::Name("_CRS", aml::ResourceTemplate(
                                     {aml::WordBusNumbers(0, static_cast<uint16_t>(buses - 1)),
                                      aml::IoPorts(platform.pci_config_port, 8),
                                      aml::DwordMemoryWindow(platform.mmio32),
                                      aml::QwordMemoryWindow(platform.memory.mmio64)})),
               aml::Name("_PRT", aml::Package({})), OscMethod()});
}

// The ECAM window has to be reserved here: Linux refuses to use it otherwise.
Bytes MotherboardResources(const PlatformDescription& platform) {
  return aml::Device(
      "MBRD", {aml::Name("_HID", aml::EisaId("PNP0C02")), aml::Name("_UID", aml::Integer(0)),
               aml::Name("_CRS", aml::ResourceTemplate({aml::Memory32Fixed(platform.ecam),
                                                        aml::IoPorts(platform.power_port, 8)}))});
}

Bytes Com1(const PlatformDescription& platform) {
  return aml::Device(
      "COM1", {aml::Name("_HID", aml::EisaId("PNP0501")), aml::Name("_UID", aml::Integer(0)),
               aml::Name("_CRS", aml::ResourceTemplate({aml::IoPorts(platform.com1_port, 8),
                                                        aml::EdgeInterrupt(platform.com1_gsi)}))});
}

Bytes Rtc(const PlatformDescription& platform) {
  return aml::Device(
      "RTC0", {aml::Name("_HID", aml::EisaId("PNP0B00")), aml::Name("_UID", aml::Integer(0)),
               aml::Name("_CRS", aml::ResourceTemplate({aml::IoPorts(platform.rtc_port, 2)}))});
}

// ACPI 6.4, 5.6.9: its one interrupt runs _EVT, which passes on what the event register holds.
Bytes GenericEventDevice(const PlatformDescription& platform) {
  constexpr uint8_t kPowerButtonPressed = 0x80;
  constexpr uint8_t kGenerationChanged = 0x80;
  const auto pending = [](uint32_t bit) { return aml::And(aml::Local(0), aml::Integer(bit)); };
  return aml::Device(
      "GED0",
      {aml::Name("_HID", aml::String("ACPI0013")), aml::Name("_UID", aml::Integer(0)),
       aml::Name("_CRS", aml::ResourceTemplate({aml::EdgeInterrupt(platform.ged_gsi)})),
       aml::SystemIoRegion("EVTR", platform.ged_event_port, 4), aml::DwordField("EVTR", "EVNT"),
       aml::Method("_EVT", 1, aml::Serialization::kSerialized,
                   {aml::Store(aml::Path("EVNT"), aml::Local(0)),
                    aml::If(pending(kGedEventPowerButton),
                            {aml::Notify("\\_SB.PWRB", kPowerButtonPressed)}),
                    aml::If(pending(kGedEventVmGenIdChanged),
                            {aml::Notify("\\_SB.VGEN", kGenerationChanged)})})});
}

Bytes PowerButton() {
  return aml::Device(
      "PWRB", {aml::Name("_HID", aml::EisaId("PNP0C0C")), aml::Name("_UID", aml::Integer(0))});
}

// Microsoft, "Virtual Machine Generation ID", 2012: the identifier by which an operating system
// finds it is the compatible one; ADDR holds the address, low half first.
Bytes VmGenId(const PlatformDescription& platform) {
  const uint64_t address = platform.vmgenid.raw();
  return aml::Device("VGEN", {aml::Name("_HID", aml::String("PVSR0001")),
                              aml::Name("_CID", aml::String("VM_Gen_Counter")),
                              aml::Name("_DDN", aml::String("VM_Gen_Counter")),
                              aml::Name("ADDR", aml::Package({aml::Integer(address & 0xffff'ffff),
                                                              aml::Integer(address >> 32)}))});
}

// One object a processor of the MADT, paired by _UID (ACPI 6.4, 5.2.12).
Bytes Processor(uint32_t uid) {
  return aml::Device(fmt::format("C{:03X}", uid), {aml::Name("_HID", aml::String("ACPI0007")),
                                                   aml::Name("_UID", aml::Integer(uid))});
}

}  // namespace

std::vector<uint8_t> BuildDsdt(const PlatformDescription& platform) {
  std::vector<Bytes> devices = {PciRoot(platform),
                                MotherboardResources(platform),
                                Com1(platform),
                                Rtc(platform),
                                PowerButton(),
                                VmGenId(platform),
                                GenericEventDevice(platform)};
  for (uint32_t uid = 0; uid < platform.apic_ids.size(); ++uid) {
    devices.push_back(Processor(uid));
  }
  const Bytes zero = aml::Integer(0);
  const Bytes s5 = aml::Integer(kSleepTypeS5);
  return AcpiTable("DSDT", kDsdtRevision,
                   aml::Join({aml::Scope("\\_SB", devices),
                              aml::Name("\\_S5", aml::Package({s5, s5, zero, zero}))}));
}

}  // namespace pacsvisor
