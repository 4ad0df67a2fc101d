#include "devices/platform/acpi_registers.h"

#include <utility>

namespace pacsvisor {
namespace {

constexpr uint32_t kAcpiRegistersStateVersion = 1;
constexpr uint8_t kSleepTypeShift = 2;
constexpr uint8_t kSleepTypeMask = 7;
constexpr uint8_t kSleepEnable = 1u << 5;
constexpr uint32_t kKnownEvents = AcpiRegisters::kPowerButton | AcpiRegisters::kGenerationChanged;

}  // namespace

AcpiRegisters::AcpiRegisters(Actions actions, InterruptLine& line)
    : actions_(std::move(actions)), line_(line) {}

uint8_t AcpiRegisters::ReadByte(uint64_t offset) {
  if (offset < kEventOffset) {
    return 0;
  }
  const auto shift = static_cast<unsigned>(8 * (offset - kEventOffset));
  const auto value = static_cast<uint8_t>(pending_ >> shift);
  pending_ &= ~(uint32_t{0xff} << shift);
  return value;
}

void AcpiRegisters::Read(uint64_t offset, std::span<uint8_t> data) {
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = offset + i < kSizeBytes ? ReadByte(offset + i) : 0xff;
  }
}

void AcpiRegisters::WriteByte(uint64_t offset, uint8_t value) {
  if (offset == kSleepControlOffset) {
    const uint8_t type = (value >> kSleepTypeShift) & kSleepTypeMask;
    if ((value & kSleepEnable) != 0 && type == kSleepTypeS5) {
      actions_.power_off();
    }
  } else if (offset == kResetOffset && value == kResetValue) {
    actions_.reset();
  }
}

void AcpiRegisters::Write(uint64_t offset, std::span<const uint8_t> data) {
  for (size_t i = 0; i < data.size(); ++i) {
    WriteByte(offset + i, data[i]);
  }
}

void AcpiRegisters::RaiseEvent(uint32_t event) {
  const MutexLock lock(mutex_);
  CHECK((event & ~kKnownEvents) == 0, "event {:#x}", event);
  pending_ |= event;
  if (paused_) {
    interrupt_owed_ = true;
  } else {
    line_.Trigger();
  }
}

void AcpiRegisters::Pause() {
  const MutexLock lock(mutex_);
  paused_ = true;
}

void AcpiRegisters::Resume() {
  const MutexLock lock(mutex_);
  paused_ = false;
  if (std::exchange(interrupt_owed_, false)) {
    line_.Trigger();
  }
}

void AcpiRegisters::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  node.SetVersion(kAcpiRegistersStateVersion);
  node.SetU64("pending", pending_);
}

Status AcpiRegisters::Load(const StateNode& node) {
  const MutexLock lock(mutex_);
  TRY(node.Version(kAcpiRegistersStateVersion));
  pending_ = TRY(node.Get<uint32_t>("pending")) & kKnownEvents;
  paused_ = true;
  interrupt_owed_ = pending_ != 0;
  return {};
}

}  // namespace pacsvisor
