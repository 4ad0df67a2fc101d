#include "devices/platform/serial_port.h"

#include <utility>
#include <vector>

#include "vmm/base/thread.h"

namespace pacsvisor {
namespace {

constexpr size_t kChunkBytes = 4096;

}  // namespace

Result<std::unique_ptr<SerialPort>> SerialPort::Create(InterruptLine& line, Sink sink) {
  EventFd input_room = TRY(EventFd::Create());
  std::unique_ptr<SerialPort> port(new SerialPort(line, std::move(sink), std::move(input_room)));
  SerialPort* raw = port.get();
  port->worker_ = TRY(StartThread(ThreadKind::kDevice, "serial", [raw] { raw->RunWorker(); }));
  return port;
}

SerialPort::SerialPort(InterruptLine& line, Sink sink, EventFd input_room)
    : line_(line), sink_(std::move(sink)), input_room_(std::move(input_room)) {}

SerialPort::~SerialPort() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (worker_.joinable()) {
    worker_.join();
  }
}

void SerialPort::RaiseEdge() {
  if (uart_.TakeInterruptEdge()) {
    line_.Trigger();
  }
}

void SerialPort::Read(uint64_t offset, std::span<uint8_t> data) {
  const MutexLock lock(mutex_);
  // Wider accesses are several of one byte, as on the ISA bus.
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = offset + i < kSizeBytes ? uart_.Read(static_cast<UartRegister>(offset + i)) : 0xff;
  }
  if (input_refused_ && uart_.HasInputRoom()) {
    input_refused_ = false;
    input_room_.Signal();
  }
  RaiseEdge();
}

void SerialPort::Write(uint64_t offset, std::span<const uint8_t> data) {
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < data.size() && offset + i < kSizeBytes; ++i) {
    uart_.Write(static_cast<UartRegister>(offset + i), data[i]);
    RaiseEdge();
  }
  if (uart_.HasOutput()) {
    changed_.notify_all();
  }
}

size_t SerialPort::Receive(std::span<const uint8_t> bytes) {
  const MutexLock lock(mutex_);
  if (paused_) {
    input_refused_ = true;  // nothing changes while saved; Resume says when there is room
    return 0;
  }
  const size_t taken = uart_.Receive(bytes);
  input_refused_ = taken < bytes.size();
  RaiseEdge();
  return taken;
}

void SerialPort::RunWorker() {
  // The lock is let go of around the sink: unique_lock, which the analysis does not follow.
  std::unique_lock<Mutex> lock(mutex_);
  const auto run = [this]() NO_THREAD_SAFETY_ANALYSIS {
    return stopping_ || (!paused_ && uart_.HasOutput());
  };
  const auto open = [this]() NO_THREAD_SAFETY_ANALYSIS { return stopping_ || !paused_; };
  const auto peek = [this]() NO_THREAD_SAFETY_ANALYSIS { return uart_.PeekOutput(kChunkBytes); };
  const auto drop = [this](size_t count) NO_THREAD_SAFETY_ANALYSIS {
    uart_.DropOutput(count);
    RaiseEdge();
  };
  while (true) {
    changed_.wait(lock, run);
    const std::vector<uint8_t> chunk = peek();
    if (chunk.empty()) {
      return;  // stopping, and all is sent
    }
    lock.unlock();
    sink_(chunk);
    lock.lock();
    changed_.wait(lock, open);
    drop(chunk.size());
  }
}

void SerialPort::Pause() {
  const MutexLock lock(mutex_);
  paused_ = true;
}

void SerialPort::Resume() {
  const MutexLock lock(mutex_);
  paused_ = false;
  if (std::exchange(restored_, false) && uart_.InterruptLevel()) {
    line_.Trigger();
  }
  if (std::exchange(input_refused_, false)) {
    input_room_.Signal();
  }
  changed_.notify_all();
}

void SerialPort::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  uart_.Save(node);
}

Status SerialPort::Load(const StateNode& node) {
  const MutexLock lock(mutex_);
  TRY(uart_.Load(node));
  uart_.TakeInterruptEdge();
  restored_ = true;
  paused_ = true;
  return {};
}

}  // namespace pacsvisor
