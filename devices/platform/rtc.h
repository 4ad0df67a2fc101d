// The real-time clock, an MC146818 (Motorola MC146818A data sheet) on ports 0x70 (index) and 0x71
// (data) with 128 bytes of CMOS memory. It shows the host's time plus an offset that the guest
// sets.
//
// Update-ended and alarm flags are found when register C is read. With an interrupt line, their
// interrupts are raised by a thread that wakes only while one is enabled. There is no periodic
// flag: Linux emulates that interrupt by its timers.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "devices/bus/bus_device.h"
#include "devices/bus/interrupt_line.h"
#include "devices/bus/pausable.h"
#include "devices/platform/rtc_calendar.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Threads: Read and Write vCPUs; the rest the control thread.
class Rtc : public BusDevice, public Pausable, public Stateful {
 public:
  static constexpr uint64_t kSizeBytes = 2;
  static constexpr uint8_t kCenturyRegister = 0x32;

  // The host's wall clock in nanoseconds since 1970 (UTC); called under the clock's lock.
  using Clock = std::function<uint64_t()>;

  // Without an interrupt line.
  explicit Rtc(Clock clock);
  // `line` is borrowed.
  static Result<std::unique_ptr<Rtc>> Create(Clock clock, InterruptLine& line);
  ~Rtc() override;

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  void Pause() override;
  void Resume() override;
  // The offset is saved: a machine restored shows the time of its new host by its own offset.
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  static constexpr size_t kCmosBytes = 128;

  Rtc(Clock clock, InterruptLine* line);
  RtcFormat Format() const REQUIRES(mutex_);
  bool Halted() const REQUIRES(mutex_);  // SET: the guest writes the time
  int64_t GuestSeconds() const REQUIRES(mutex_);
  RtcTime ShownTime() const REQUIRES(mutex_);
  bool UpdateInProgress() const REQUIRES(mutex_);
  uint8_t ReadRegister(uint8_t reg) REQUIRES(mutex_);
  void WriteRegister(uint8_t reg, uint8_t value) REQUIRES(mutex_);
  void WriteTime(uint8_t reg, uint8_t value) REQUIRES(mutex_);
  void WriteControl(uint8_t value) REQUIRES(mutex_);
  void SetTime(const RtcTime& time) REQUIRES(mutex_);
  // Sets the flags of the seconds that began since the last call.
  void Advance() REQUIRES(mutex_);
  bool AlarmBetween(int64_t after, int64_t until) const REQUIRES(mutex_);
  // The interrupt request follows flags and enables; raises the line when it rises.
  void UpdateInterrupt() REQUIRES(mutex_);
  bool WantsInterrupts() const REQUIRES(mutex_);
  void RunWorker();

  // Constant after construction.
  const Clock clock_;
  InterruptLine* const line_;  // may be null
  // Guarded.
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::array<uint8_t, kCmosBytes> cmos_ GUARDED_BY(mutex_){};
  uint8_t index_ GUARDED_BY(mutex_) = 0;
  int64_t offset_seconds_ GUARDED_BY(mutex_) = 0;
  RtcTime halted_time_ GUARDED_BY(mutex_);      // shown while halted
  int64_t last_second_ GUARDED_BY(mutex_) = 0;  // up to which flags were found
  bool paused_ GUARDED_BY(mutex_) = false;
  bool restored_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread worker_;
};

}  // namespace pacsvisor
