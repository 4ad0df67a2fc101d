#include "vmm/machine/platform_devices.h"

#include <utility>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kPlatformDevicesStateVersion = 1;
constexpr uint64_t kKeyboardCommandPort = 0x64;

// The register block and the values that the tables tell the guest are those the device has.
constexpr PlatformDescription kDescription;
static_assert(AcpiRegisters::kSleepControlOffset ==
              kDescription.sleep_control_port - kDescription.power_port);
static_assert(AcpiRegisters::kResetOffset == kDescription.reset_port - kDescription.power_port);
static_assert(AcpiRegisters::kSleepStatusOffset ==
              kDescription.sleep_status_port - kDescription.power_port);
static_assert(AcpiRegisters::kEventOffset == kDescription.ged_event_port - kDescription.power_port);
static_assert(AcpiRegisters::kResetValue == kDescription.reset_value);
static_assert(AcpiRegisters::kPowerButton == kGedEventPowerButton);
static_assert(AcpiRegisters::kGenerationChanged == kGedEventVmGenIdChanged);
static_assert(VmGenerationId::kSizeBytes == kVmGenIdSizeBytes);

}  // namespace

Result<std::unique_ptr<PlatformDevices>> PlatformDevices::Create(
    const PlatformDescription& platform, Host host, Actions actions) {
  std::unique_ptr<PlatformDevices> devices(new PlatformDevices());
  TRY(devices->Build(platform, host, std::move(actions)));
  return devices;
}

Status PlatformDevices::Build(const PlatformDescription& platform, Host host, Actions actions) {
  serial_line_ = TRY(IrqfdLine::Create(host.vm, platform.com1_gsi));
  event_line_ = TRY(IrqfdLine::Create(host.vm, platform.ged_gsi));
  serial_ = TRY(SerialPort::Create(*serial_line_, std::move(actions.console_output)));
  console_feed_ = TRY(ConsoleFeed::Start(*serial_));
  acpi_ = std::make_unique<AcpiRegisters>(
      AcpiRegisters::Actions{std::move(actions.power_off), actions.reset}, *event_line_);
  rtc_ = std::make_unique<Rtc>([] { return RealtimeNs(); });
  keyboard_reset_ = std::make_unique<ResetPort>(ResetPort::Kind::kKeyboardCommand, actions.reset);
  reset_control_ = std::make_unique<ResetPort>(ResetPort::Kind::kResetControl, actions.reset);
  generation_id_ = std::make_unique<VmGenerationId>(host.memory, platform.vmgenid);

  TRY(host.ports.Insert(platform.com1_port, SerialPort::kSizeBytes, *serial_));
  TRY(host.ports.Insert(platform.power_port, AcpiRegisters::kSizeBytes, *acpi_));
  TRY(host.ports.Insert(platform.rtc_port, Rtc::kSizeBytes, *rtc_));
  TRY(host.ports.Insert(kKeyboardCommandPort, 1, *keyboard_reset_));
  host.pci.AttachResetControl(*reset_control_);
  return {};
}

void PlatformDevices::Pause() {
  serial_->Pause();
  acpi_->Pause();
  rtc_->Pause();
}

void PlatformDevices::Resume() {
  serial_->Resume();
  acpi_->Resume();
  rtc_->Resume();
}

void PlatformDevices::Save(StateNode& node) const {
  node.SetVersion(kPlatformDevicesStateVersion);
  serial_->Save(node.AddChild("serial"));
  acpi_->Save(node.AddChild("acpi"));
  rtc_->Save(node.AddChild("rtc"));
}

Status PlatformDevices::Load(const StateNode& node) {
  TRY(node.Version(kPlatformDevicesStateVersion));
  const StateNode* const serial = TRY(node.Child("serial"));
  const StateNode* const acpi = TRY(node.Child("acpi"));
  const StateNode* const rtc = TRY(node.Child("rtc"));
  TRY(serial_->Load(*serial));
  TRY(acpi_->Load(*acpi));
  return rtc_->Load(*rtc);
}

}  // namespace pacsvisor
