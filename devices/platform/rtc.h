// An MC146818 real-time clock with its CMOS memory (Motorola MC146818A data sheet), at an index and
// a data port. Time is the host's real time plus an offset, which the guest sets by setting the
// clock; so it is right after a restore without anybody's doing. There is no interrupt line: the
// DSDT names none, and stock kernels then use the clock for its time alone.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "devices/bus/bus_device.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Threads: any vCPU.
class Rtc : public BusDevice, public Stateful {
 public:
  static constexpr uint64_t kSizeBytes = 2;

  // `now_ns`: the host's real time since 1970-01-01 UTC.
  explicit Rtc(std::function<uint64_t()> now_ns);

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  uint8_t ReadRegister(uint8_t index) REQUIRES(mutex_);
  void WriteRegister(uint8_t index, uint8_t value) REQUIRES(mutex_);
  void WriteControlB(uint8_t value) REQUIRES(mutex_);
  // The guest's time in seconds since 1970.
  int64_t GuestSeconds() const REQUIRES(mutex_);
  // While the guest sets the clock, its registers; else those of the present second.
  void LatchTime() REQUIRES(mutex_);
  void TakeTimeFromRegisters() REQUIRES(mutex_);
  uint8_t Encode(unsigned value) const REQUIRES(mutex_);
  unsigned Decode(uint8_t value) const REQUIRES(mutex_);

  // Constant after construction.
  const std::function<uint64_t()> now_ns_;
  // Guarded.
  mutable Mutex mutex_;
  uint8_t index_ GUARDED_BY(mutex_) = 0;
  int64_t offset_seconds_ GUARDED_BY(mutex_) = 0;
  int64_t flags_read_at_ GUARDED_BY(mutex_) = 0;  // the second in which register C was last read
  std::array<uint8_t, 128> cmos_ GUARDED_BY(mutex_){};
};

}  // namespace pacsvisor
