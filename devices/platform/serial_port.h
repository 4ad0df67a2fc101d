// A 16550A UART (PC16550D data sheet): the machine's serial console.
//
// What the guest sends goes into a bounded buffer that a worker hands to the sink: a slow terminal
// never holds up a vCPU. While the buffer is full the transmitter says it is busy. What the host
// sends waits in a bounded queue behind the receive register.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "devices/bus/bus_device.h"
#include "devices/bus/interrupt_line.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Threads: Read and Write on vCPU threads, Receive on any, the sink on the worker.
class SerialPort : public BusDevice, public Stateful {
 public:
  static constexpr uint64_t kSizeBytes = 8;
  static constexpr size_t kTransmitBufferBytes = 64 * 1024;
  static constexpr size_t kReceiveQueueBytes = 4096;

  using Sink = std::function<void(std::span<const uint8_t> bytes)>;

  static Result<std::unique_ptr<SerialPort>> Create(InterruptLine& line, Sink sink);
  ~SerialPort() override;  // what was sent before reaches the sink

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  // Bytes from the host's side. Returns how many were taken; the rest found no room.
  size_t Receive(std::span<const uint8_t> bytes);

  // Bytes that were sent before a save belong to the machine that was saved: they are its
  // console's.
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  SerialPort(InterruptLine& line, Sink sink, EventFd wake)
      : line_(line), sink_(std::move(sink)), wake_(std::move(wake)) {}

  uint8_t ReadRegister(uint64_t offset) REQUIRES(mutex_);
  void WriteRegister(uint64_t offset, uint8_t value) REQUIRES(mutex_);
  uint8_t ReadData() REQUIRES(mutex_);
  void Transmit(uint8_t byte) REQUIRES(mutex_);
  uint8_t ReadInterruptIdentification() REQUIRES(mutex_);
  uint8_t LineStatus() const REQUIRES(mutex_);
  uint8_t ModemStatus() const REQUIRES(mutex_);
  void WriteFifoControl(uint8_t value) REQUIRES(mutex_);
  // The source of highest priority that is enabled, as the IIR names it.
  uint8_t PendingInterrupt() const REQUIRES(mutex_);
  // Edge triggered: every new reason is an edge of its own. Spurious ones are legal, a lost one
  // hangs a console.
  void InterruptIfPending() REQUIRES(mutex_);
  void Drain();

  // Constant after construction.
  InterruptLine& line_;
  const Sink sink_;
  const EventFd wake_;
  // Guarded.
  mutable Mutex mutex_;
  std::vector<uint8_t> transmit_ GUARDED_BY(mutex_);
  std::deque<uint8_t> receive_ GUARDED_BY(mutex_);
  bool transmit_interrupt_ GUARDED_BY(mutex_) = false;
  uint8_t interrupt_enable_ GUARDED_BY(mutex_) = 0;
  uint8_t line_control_ GUARDED_BY(mutex_) = 3;  // eight bits, no parity, one stop bit
  uint8_t modem_control_ GUARDED_BY(mutex_) = 0;
  uint8_t scratch_ GUARDED_BY(mutex_) = 0;
  uint16_t divisor_ GUARDED_BY(mutex_) = 1;  // 115,200 baud
  bool fifo_enabled_ GUARDED_BY(mutex_) = false;
  // Ends first.
  std::unique_ptr<EventLoop> worker_;
};

}  // namespace pacsvisor
