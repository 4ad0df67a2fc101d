#include "devices/platform/serial_port.h"

#include <sys/epoll.h>

#include <algorithm>

namespace pacsvisor {
namespace {

constexpr uint32_t kStateVersion = 1;

// Registers by offset, with the divisor latch closed.
constexpr uint64_t kData = 0;
constexpr uint64_t kInterruptEnable = 1;
constexpr uint64_t kIdentificationAndFifo = 2;
constexpr uint64_t kLineControl = 3;
constexpr uint64_t kModemControl = 4;
constexpr uint64_t kLineStatus = 5;
constexpr uint64_t kModemStatus = 6;
constexpr uint64_t kScratch = 7;

constexpr uint8_t kEnableReceived = 1u << 0;
constexpr uint8_t kEnableTransmitEmpty = 1u << 1;
constexpr uint8_t kEnableMask = 0x0f;

constexpr uint8_t kIdNone = 1;
constexpr uint8_t kIdTransmitEmpty = 2;
constexpr uint8_t kIdReceived = 4;
constexpr uint8_t kIdFifos = 0xc0;

constexpr uint8_t kFifoEnable = 1u << 0;
constexpr uint8_t kFifoClearReceive = 1u << 1;

constexpr uint8_t kDivisorLatch = 1u << 7;

constexpr uint8_t kModemDtr = 1u << 0;
constexpr uint8_t kModemRts = 1u << 1;
constexpr uint8_t kModemOut1 = 1u << 2;
constexpr uint8_t kModemOut2 = 1u << 3;
constexpr uint8_t kModemLoop = 1u << 4;
constexpr uint8_t kModemMask = 0x1f;

constexpr uint8_t kLineDataReady = 1u << 0;
constexpr uint8_t kLineTransmitEmpty = 1u << 5;
constexpr uint8_t kLineTransmitterIdle = 1u << 6;

constexpr uint8_t kStatusCts = 1u << 4;
constexpr uint8_t kStatusDsr = 1u << 5;
constexpr uint8_t kStatusRing = 1u << 6;
constexpr uint8_t kStatusDcd = 1u << 7;

// A driver that sees an empty transmitter may write as many bytes as the FIFO holds.
constexpr size_t kFifoBytes = 16;

}  // namespace

Result<std::unique_ptr<SerialPort>> SerialPort::Create(InterruptLine& line, Sink sink) {
  EventFd wake = TRY(EventFd::Create());
  std::unique_ptr<SerialPort> port(new SerialPort(line, std::move(sink), std::move(wake)));
  port->worker_ = TRY(EventLoop::Create("serial"));
  SerialPort* const raw = port.get();
  TRY(port->worker_->Add(port->wake_.fd(), EPOLLIN, [raw](uint32_t) {
    raw->wake_.Consume();
    raw->Drain();
  }));
  TRY(port->worker_->Start());
  return port;
}

SerialPort::~SerialPort() {
  if (worker_ != nullptr) {
    worker_->Stop();
  }
  Drain();
}

void SerialPort::Drain() {
  std::vector<uint8_t> bytes;
  {
    const MutexLock lock(mutex_);
    bytes.swap(transmit_);
    if (!bytes.empty()) {
      transmit_interrupt_ = true;
      InterruptIfPending();
    }
  }
  if (!bytes.empty()) {
    sink_(bytes);
  }
}

void SerialPort::Read(uint64_t offset, std::span<uint8_t> data) {
  const MutexLock lock(mutex_);
  for (uint8_t& byte : data) {
    byte = ReadRegister(offset++);
  }
}

void SerialPort::Write(uint64_t offset, std::span<const uint8_t> data) {
  const MutexLock lock(mutex_);
  for (const uint8_t byte : data) {
    WriteRegister(offset++, byte);
  }
}

size_t SerialPort::Receive(std::span<const uint8_t> bytes) {
  const MutexLock lock(mutex_);
  const size_t taken = std::min(bytes.size(), kReceiveQueueBytes - receive_.size());
  receive_.insert(receive_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(taken));
  InterruptIfPending();
  return taken;
}

uint8_t SerialPort::ReadRegister(uint64_t offset) {
  const bool latch = (line_control_ & kDivisorLatch) != 0;
  switch (offset) {
    case kData:
      return latch ? static_cast<uint8_t>(divisor_) : ReadData();
    case kInterruptEnable:
      return latch ? static_cast<uint8_t>(divisor_ >> 8) : interrupt_enable_;
    case kIdentificationAndFifo:
      return ReadInterruptIdentification();
    case kLineControl:
      return line_control_;
    case kModemControl:
      return modem_control_;
    case kLineStatus:
      return LineStatus();
    case kModemStatus:
      return ModemStatus();
    case kScratch:
      return scratch_;
    default:
      return 0xff;
  }
}

void SerialPort::WriteRegister(uint64_t offset, uint8_t value) {
  const bool latch = (line_control_ & kDivisorLatch) != 0;
  switch (offset) {
    case kData:
      if (latch) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff00) | value);
      } else {
        Transmit(value);
      }
      break;
    case kInterruptEnable:
      if (latch) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff) | value << 8);
      } else {
        // Enabling the transmitter's interrupt while it is empty raises it at once.
        transmit_interrupt_ |= (value & ~interrupt_enable_ & kEnableTransmitEmpty) != 0;
        interrupt_enable_ = value & kEnableMask;
        InterruptIfPending();
      }
      break;
    case kIdentificationAndFifo:
      WriteFifoControl(value);
      break;
    case kLineControl:
      line_control_ = value;
      break;
    case kModemControl:
      modem_control_ = value & kModemMask;
      break;
    case kScratch:
      scratch_ = value;
      break;
    default:  // the status registers are read only
      break;
  }
}

uint8_t SerialPort::ReadData() {
  if (receive_.empty()) {
    return 0;
  }
  const uint8_t byte = receive_.front();
  receive_.pop_front();
  InterruptIfPending();
  return byte;
}

void SerialPort::Transmit(uint8_t byte) {
  transmit_interrupt_ = false;
  if ((modem_control_ & kModemLoop) != 0) {
    if (receive_.size() < kReceiveQueueBytes) {
      receive_.push_back(byte);
    }
    transmit_interrupt_ = true;
    InterruptIfPending();
    return;
  }
  if (transmit_.size() < kTransmitBufferBytes) {  // else lost, as on a wire too slow
    transmit_.push_back(byte);
  }
  if (transmit_.size() == 1) {
    wake_.Signal();
  }
  if (transmit_.size() + kFifoBytes <= kTransmitBufferBytes) {
    transmit_interrupt_ = true;
    InterruptIfPending();
  }
}

uint8_t SerialPort::PendingInterrupt() const {
  if ((interrupt_enable_ & kEnableReceived) != 0 && !receive_.empty()) {
    return kIdReceived;
  }
  if ((interrupt_enable_ & kEnableTransmitEmpty) != 0 && transmit_interrupt_) {
    return kIdTransmitEmpty;
  }
  return kIdNone;
}

void SerialPort::InterruptIfPending() {
  if (PendingInterrupt() != kIdNone) {
    line_.Trigger();
  }
}

uint8_t SerialPort::ReadInterruptIdentification() {
  const uint8_t pending = PendingInterrupt();
  if (pending == kIdTransmitEmpty) {
    transmit_interrupt_ = false;  // reading its name clears it
  }
  return static_cast<uint8_t>(pending | (fifo_enabled_ ? kIdFifos : 0));
}

uint8_t SerialPort::LineStatus() const {
  uint8_t status = receive_.empty() ? 0 : kLineDataReady;
  if (transmit_.size() + kFifoBytes <= kTransmitBufferBytes) {
    status |= kLineTransmitEmpty | kLineTransmitterIdle;
  }
  return status;
}

uint8_t SerialPort::ModemStatus() const {
  if ((modem_control_ & kModemLoop) == 0) {
    return kStatusDcd | kStatusDsr | kStatusCts;  // somebody listens
  }
  return static_cast<uint8_t>(((modem_control_ & kModemRts) != 0 ? kStatusCts : 0) |
                              ((modem_control_ & kModemDtr) != 0 ? kStatusDsr : 0) |
                              ((modem_control_ & kModemOut1) != 0 ? kStatusRing : 0) |
                              ((modem_control_ & kModemOut2) != 0 ? kStatusDcd : 0));
}

void SerialPort::WriteFifoControl(uint8_t value) {
  const bool enable = (value & kFifoEnable) != 0;
  // Changing the mode empties the FIFOs, as their clear bits do.
  if (enable != fifo_enabled_ || (value & kFifoClearReceive) != 0) {
    receive_.clear();
  }
  fifo_enabled_ = enable;
}

void SerialPort::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  node.SetVersion(kStateVersion);
  node.SetU64("interrupt_enable", interrupt_enable_);
  node.SetU64("line_control", line_control_);
  node.SetU64("modem_control", modem_control_);
  node.SetU64("scratch", scratch_);
  node.SetU64("divisor", divisor_);
  node.SetBool("fifo_enabled", fifo_enabled_);
  node.SetBool("transmit_interrupt", transmit_interrupt_);
  node.SetBytes("receive", std::vector<uint8_t>(receive_.begin(), receive_.end()));
}

Status SerialPort::Load(const StateNode& node) {
  TRY(node.Version(kStateVersion));
  const std::span<const uint8_t> received = TRY(node.BytesOf("receive"));
  if (received.size() > kReceiveQueueBytes) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: {} bytes wait at the serial port",
                       received.size());
  }
  const auto interrupt_enable = TRY(node.Get<uint8_t>("interrupt_enable"));
  const auto line_control = TRY(node.Get<uint8_t>("line_control"));
  const auto modem_control = TRY(node.Get<uint8_t>("modem_control"));
  const auto scratch = TRY(node.Get<uint8_t>("scratch"));
  const auto divisor = TRY(node.Get<uint16_t>("divisor"));
  const bool fifo_enabled = TRY(node.Bool("fifo_enabled"));
  TRY(node.Bool("transmit_interrupt"));
  const MutexLock lock(mutex_);
  interrupt_enable_ = interrupt_enable & kEnableMask;
  line_control_ = line_control;
  modem_control_ = modem_control & kModemMask;
  scratch_ = scratch;
  divisor_ = divisor;
  fifo_enabled_ = fifo_enabled;
  receive_.assign(received.begin(), received.end());
  // The transmitter is empty now, whatever it was: a driver that waits is told once more.
  transmit_interrupt_ = true;
  InterruptIfPending();
  return {};
}

}  // namespace pacsvisor
