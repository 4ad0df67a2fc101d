#include "devices/platform/uart_16550.h"

#include <algorithm>
#include <array>
#include <utility>

namespace pacsvisor {
namespace {

constexpr uint32_t kUart16550StateVersion = 1;
constexpr uint8_t kTriggerShift = 6;
constexpr std::array<size_t, 4> kTriggerLevels = {1, 4, 8, 14};

}  // namespace

size_t Uart16550::FifoLevel() const { return std::min(input_.size(), FifoDepth()); }

size_t Uart16550::TriggerLevel() const {
  return (fifo_control_ & kUartFifoEnable) != 0 ? kTriggerLevels[fifo_control_ >> kTriggerShift]
                                                : 1;
}

uint8_t Uart16550::Identity() const {
  // In the order of priority (8.6).
  if ((interrupt_enable_ & kUartEnableLineStatus) != 0 && line_errors_ != 0) {
    return kUartIdentityLineStatus;
  }
  if ((interrupt_enable_ & kUartEnableReceived) != 0 && !input_.empty()) {
    // Fewer than the trigger level: no more will come soon, which is the time-out's case.
    return FifoLevel() >= TriggerLevel() ? kUartIdentityReceived : kUartIdentityTimeout;
  }
  if ((interrupt_enable_ & kUartEnableTransmitEmpty) != 0 && transmit_empty_pending_) {
    return kUartIdentityTransmitEmpty;
  }
  if ((interrupt_enable_ & kUartEnableModemStatus) != 0 && modem_changes_ != 0) {
    return kUartIdentityModemStatus;
  }
  return kUartIdentityNone;
}

void Uart16550::UpdateInterrupt() {
  const bool level = Identity() != kUartIdentityNone;
  interrupt_edge_ |= level && !interrupt_level_;
  interrupt_level_ = level;
}

bool Uart16550::TakeInterruptEdge() { return std::exchange(interrupt_edge_, false); }

uint8_t Uart16550::LineStatus() const {
  uint8_t status = line_errors_;
  if (!input_.empty()) {
    status |= kUartLineDataReady;
  }
  if (!output_full_) {
    status |= kUartLineHoldingEmpty | kUartLineTransmitterEmpty;
  }
  return status;
}

uint8_t Uart16550::ModemLines() const {
  if (!Loop()) {
    return kUartStatusCts | kUartStatusDsr | kUartStatusCarrier;  // somebody is always there
  }
  // 8.7: in loop mode the four outputs are the four inputs.
  uint8_t lines = 0;
  lines |= (modem_control_ & kUartModemRts) != 0 ? kUartStatusCts : 0;
  lines |= (modem_control_ & kUartModemDtr) != 0 ? kUartStatusDsr : 0;
  lines |= (modem_control_ & kUartModemOut1) != 0 ? kUartStatusRing : 0;
  lines |= (modem_control_ & kUartModemOut2) != 0 ? kUartStatusCarrier : 0;
  return lines;
}

uint8_t Uart16550::ReadData() {
  if (input_.empty()) {
    return 0;
  }
  const uint8_t value = input_.front();
  input_.pop_front();
  return value;
}

uint8_t Uart16550::Read(UartRegister reg) {
  uint8_t value = 0;
  switch (reg) {
    case UartRegister::kData:
      value = DivisorLatchOpen() ? static_cast<uint8_t>(divisor_) : ReadData();
      break;
    case UartRegister::kInterruptEnable:
      value = DivisorLatchOpen() ? static_cast<uint8_t>(divisor_ >> 8) : interrupt_enable_;
      break;
    case UartRegister::kInterruptIdentity:
      value = Identity();
      if (value == kUartIdentityTransmitEmpty) {
        transmit_empty_pending_ = false;  // 8.6: reading it resets this source
      }
      value |= (fifo_control_ & kUartFifoEnable) != 0 ? kUartIdentityFifos : 0;
      break;
    case UartRegister::kLineControl:
      value = line_control_;
      break;
    case UartRegister::kModemControl:
      value = modem_control_;
      break;
    case UartRegister::kLineStatus:
      value = LineStatus();
      line_errors_ = 0;
      break;
    case UartRegister::kModemStatus:
      value = ModemLines() | modem_changes_;
      modem_changes_ = 0;
      break;
    case UartRegister::kScratch:
      value = scratch_;
      break;
  }
  UpdateInterrupt();
  return value;
}

void Uart16550::Write(UartRegister reg, uint8_t value) {
  switch (reg) {
    case UartRegister::kData:
      if (DivisorLatchOpen()) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff00) | value);
      } else {
        WriteData(value);
      }
      break;
    case UartRegister::kInterruptEnable:
      if (DivisorLatchOpen()) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0x00ff) | (value << 8));
      } else {
        WriteInterruptEnable(value);
      }
      break;
    case UartRegister::kInterruptIdentity:
      WriteFifoControl(value);
      break;
    case UartRegister::kLineControl:
      line_control_ = value;
      break;
    case UartRegister::kModemControl:
      WriteModemControl(value);
      break;
    case UartRegister::kLineStatus:
    case UartRegister::kModemStatus:
      break;  // read only
    case UartRegister::kScratch:
      scratch_ = value;
      break;
  }
  UpdateInterrupt();
}

void Uart16550::WriteData(uint8_t value) {
  transmit_empty_pending_ = false;
  UpdateInterrupt();  // falls here, so that it rises again below
  if (Loop()) {
    if (input_.size() < FifoDepth()) {
      input_.push_back(value);
    } else {
      line_errors_ |= kUartLineOverrun;
    }
  } else if (!output_full_) {
    output_.push_back(value);
    output_full_ = output_.size() == kOutputLimitBytes;
  }
  transmit_empty_pending_ = !output_full_;
}

void Uart16550::WriteInterruptEnable(uint8_t value) {
  const uint8_t enabled = value & kUartEnableMask & ~interrupt_enable_;
  interrupt_enable_ = value & kUartEnableMask;
  // Enabling the source while the transmitter is empty raises it, which Linux tests for.
  if ((enabled & kUartEnableTransmitEmpty) != 0 && !output_full_) {
    transmit_empty_pending_ = true;
  }
}

void Uart16550::WriteFifoControl(uint8_t value) {
  const bool toggled = ((value ^ fifo_control_) & kUartFifoEnable) != 0;
  if (toggled || (value & kUartFifoClearReceive) != 0) {
    input_.erase(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(FifoLevel()));
  }
  // The other bits are taken only together with the enable bit (8.5).
  fifo_control_ = (value & kUartFifoEnable) != 0 ? (value & kUartFifoKept) : uint8_t{0};
}

void Uart16550::WriteModemControl(uint8_t value) {
  const uint8_t before = ModemLines();
  modem_control_ = value & kUartModemMask;
  const uint8_t after = ModemLines();
  // 8.8: changes lie four bits below the lines; of the ring indicator only its end counts.
  const uint8_t changed = before ^ after;
  const uint8_t ring_ended = before & ~after & kUartStatusRing;
  modem_changes_ |= static_cast<uint8_t>(((changed & ~kUartStatusRing) | ring_ended) >> 4);
}

size_t Uart16550::Receive(std::span<const uint8_t> bytes) {
  const size_t count = std::min(bytes.size(), kInputLimitBytes - input_.size());
  input_.insert(input_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(count));
  UpdateInterrupt();
  return count;
}

std::vector<uint8_t> Uart16550::PeekOutput(size_t limit) const {
  const size_t count = std::min(limit, output_.size());
  return {output_.begin(), output_.begin() + static_cast<ptrdiff_t>(count)};
}

void Uart16550::DropOutput(size_t count) {
  CHECK(count <= output_.size(), "{} of {} bytes", count, output_.size());
  output_.erase(output_.begin(), output_.begin() + static_cast<ptrdiff_t>(count));
  if (output_full_ && output_.size() <= kOutputLimitBytes / 2) {
    output_full_ = false;
    transmit_empty_pending_ = true;
  }
  UpdateInterrupt();
}

void Uart16550::Save(StateNode& node) const {
  node.SetVersion(kUart16550StateVersion);
  node.SetU64("interrupt_enable", interrupt_enable_);
  node.SetU64("fifo_control", fifo_control_);
  node.SetU64("line_control", line_control_);
  node.SetU64("modem_control", modem_control_);
  node.SetU64("line_errors", line_errors_);
  node.SetU64("modem_changes", modem_changes_);
  node.SetU64("scratch", scratch_);
  node.SetU64("divisor", divisor_);
  node.SetBool("transmit_empty_pending", transmit_empty_pending_);
  node.SetBool("output_full", output_full_);
  node.SetBytes("input", std::vector<uint8_t>(input_.begin(), input_.end()));
  node.SetBytes("output", std::vector<uint8_t>(output_.begin(), output_.end()));
}

Status Uart16550::Load(const StateNode& node) {
  TRY(node.Version(kUart16550StateVersion));
  const std::span<const uint8_t> input = TRY(node.BytesOf("input"));
  const std::span<const uint8_t> output = TRY(node.BytesOf("output"));
  if (input.size() > kInputLimitBytes || output.size() > kOutputLimitBytes) {
    return Error::Make(ErrorCode::kCorrupt,
                       "saved state: serial port with {} bytes of input, {} of output",
                       input.size(), output.size());
  }
  interrupt_enable_ = TRY(node.Get<uint8_t>("interrupt_enable")) & kUartEnableMask;
  fifo_control_ = TRY(node.Get<uint8_t>("fifo_control")) & kUartFifoKept;
  line_control_ = TRY(node.Get<uint8_t>("line_control"));
  modem_control_ = TRY(node.Get<uint8_t>("modem_control")) & kUartModemMask;
  line_errors_ = TRY(node.Get<uint8_t>("line_errors")) & kUartLineOverrun;
  modem_changes_ = TRY(node.Get<uint8_t>("modem_changes")) & 0x0f;
  scratch_ = TRY(node.Get<uint8_t>("scratch"));
  divisor_ = TRY(node.Get<uint16_t>("divisor"));
  transmit_empty_pending_ = TRY(node.Bool("transmit_empty_pending"));
  output_full_ = TRY(node.Bool("output_full")) && output.size() > kOutputLimitBytes / 2;
  input_.assign(input.begin(), input.end());
  output_.assign(output.begin(), output.end());
  output_full_ |= output_.size() == kOutputLimitBytes;
  UpdateInterrupt();
  return {};
}

}  // namespace pacsvisor
