#include "devices/platform/acpi_registers.h"

#include <algorithm>

#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kStateVersion = 1;
constexpr uint8_t kSleepEnable = 1u << 5;
constexpr unsigned kSleepTypeShift = 2;
constexpr uint8_t kSleepTypeMask = 7;
constexpr uint8_t kSleepTypeS5 = 5;  // as \_S5 in the DSDT says

}  // namespace

void AcpiRegisters::Read(uint64_t offset, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0});
  // Only an access of the register's own size takes the events: a stray byte loses none.
  if (offset == kEventOffset && data.size() == sizeof(uint32_t)) {
    StoreLeBytes(data, pending_events_.exchange(0));
  }
}

void AcpiRegisters::Write(uint64_t offset, std::span<const uint8_t> data) {
  const uint8_t value = data[0];
  if (offset == kSleepControlOffset && (value & kSleepEnable) != 0 &&
      (value >> kSleepTypeShift & kSleepTypeMask) == kSleepTypeS5) {
    actions_.power_off();
  } else if (offset == kResetOffset && value == kResetValue) {
    actions_.reset();
  }
}

void AcpiRegisters::RaiseEvent(uint32_t event) {
  pending_events_.fetch_or(event);
  event_line_.Trigger();
}

void AcpiRegisters::Save(StateNode& node) const {
  node.SetVersion(kStateVersion);
  node.SetU64("pending_events", pending_events_.load());
}

Status AcpiRegisters::Load(const StateNode& node) {
  TRY(node.Version(kStateVersion));
  pending_events_ = TRY(node.Get<uint32_t>("pending_events"));
  return {};
}

}  // namespace pacsvisor
