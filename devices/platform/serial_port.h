// COM1: a 16550 UART on eight I/O ports, its output handed to the host by a worker of its own, so
// that a console that does not read never blocks a vCPU (beyond the buffer the guest sees a full
// transmitter).
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <span>
#include <thread>

#include "devices/bus/bus_device.h"
#include "devices/bus/interrupt_line.h"
#include "devices/bus/pausable.h"
#include "devices/platform/uart_16550.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/thread_annotations.h"

namespace pacsvisor {

// Threads: Read and Write vCPUs; Receive one host thread; the rest the control thread.
class SerialPort : public BusDevice, public Pausable, public Stateful {
 public:
  static constexpr uint64_t kSizeBytes = 8;

  // Called by the worker only, with one or more bytes; may block. Destroying the port waits until
  // the sink has taken all output: who owns what the sink blocks on lets go of it before.
  using Sink = std::function<void(std::span<const uint8_t>)>;

  // `line` is borrowed.
  static Result<std::unique_ptr<SerialPort>> Create(InterruptLine& line, Sink sink);
  ~SerialPort() override;

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  // Bytes for the guest. Returns how many there was room for; input_room() is signalled when there
  // is room again.
  size_t Receive(std::span<const uint8_t> bytes);
  const EventFd& input_room() const { return input_room_; }

  // Output that the sink has not yet returned from is saved as not yet sent: a restored machine
  // resumes it. After a restore, Resume raises the line again if an interrupt is pending.
  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  SerialPort(InterruptLine& line, Sink sink, EventFd input_room);
  void RunWorker();
  void RaiseEdge() REQUIRES(mutex_);

  InterruptLine& line_;
  const Sink sink_;
  const EventFd input_room_;
  mutable Mutex mutex_;
  std::condition_variable_any changed_;  // output came, or one of the flags changed
  Uart16550 uart_ GUARDED_BY(mutex_);
  bool input_refused_ GUARDED_BY(mutex_) = false;
  bool paused_ GUARDED_BY(mutex_) = false;
  bool restored_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread worker_;
};

}  // namespace pacsvisor
