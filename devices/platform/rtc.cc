#include "devices/platform/rtc.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "vmm/base/thread.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kRtcStateVersion = 1;
constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kSecondsPerDay = 86'400;
// The data sheet's t(BUC): the update bit is set so long before the update (figure 17).
constexpr int64_t kUpdateAheadNs = 244'000;

constexpr uint8_t kIndexMask = 0x7f;  // bit 7 of port 0x70 masks NMIs
constexpr uint8_t kControlA = 0x0a;
constexpr uint8_t kControlB = 0x0b;
constexpr uint8_t kFlagsC = 0x0c;
constexpr uint8_t kValidD = 0x0d;

constexpr uint8_t kUpdateInProgress = 0x80;  // of A
constexpr uint8_t kDividerAndRate = 0x26;    // 32,768 Hz time base, 1,024 Hz periodic rate
constexpr uint8_t kSet = 0x80;               // of B
constexpr uint8_t kAlarmBit = 0x20;          // of B: enable; of C: flag
constexpr uint8_t kUpdateEndedBit = 0x10;    // the same
constexpr uint8_t kBinary = 0x04;            // of B
constexpr uint8_t kHours24 = 0x02;           // of B
constexpr uint8_t kInterruptFlag = 0x80;     // of C
constexpr uint8_t kPowerGood = 0x80;         // of D
constexpr uint8_t kAnyValue = 0xc0;          // an alarm byte that matches always

bool IsTime(uint8_t reg) {
  return reg == Rtc::kCenturyRegister || (reg <= kRtcYear && reg != kRtcSecondsAlarm &&
                                          reg != kRtcMinutesAlarm && reg != kRtcHoursAlarm);
}

// No guest can set the clock so far from its host's: the years 1 to 9999.
constexpr int64_t kOffsetLimitSeconds = 400'000'000'000;

}  // namespace

Rtc::Rtc(Clock clock, InterruptLine* line) : clock_(std::move(clock)), line_(line) {
  const MutexLock lock(mutex_);
  cmos_[kControlA] = kDividerAndRate;
  cmos_[kControlB] = kHours24;
  last_second_ = GuestSeconds();
}

Rtc::Rtc(Clock clock) : Rtc(std::move(clock), nullptr) {}

Result<std::unique_ptr<Rtc>> Rtc::Create(Clock clock, InterruptLine& line) {
  std::unique_ptr<Rtc> rtc(new Rtc(std::move(clock), &line));
  Rtc* raw = rtc.get();
  rtc->worker_ = TRY(StartThread(ThreadKind::kDevice, "rtc", [raw] { raw->RunWorker(); }));
  return rtc;
}

Rtc::~Rtc() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (worker_.joinable()) {
    worker_.join();
  }
}

RtcFormat Rtc::Format() const {
  return {.binary = (cmos_[kControlB] & kBinary) != 0,
          .hours_24 = (cmos_[kControlB] & kHours24) != 0};
}

bool Rtc::Halted() const { return (cmos_[kControlB] & kSet) != 0; }

int64_t Rtc::GuestSeconds() const {
  return static_cast<int64_t>(clock_() / kSecondNs) + offset_seconds_;
}

RtcTime Rtc::ShownTime() const {
  return Halted() ? halted_time_ : EncodeRtcTime(GuestSeconds(), Format());
}

bool Rtc::UpdateInProgress() const {
  return !Halted() && clock_() % kSecondNs >= kSecondNs - kUpdateAheadNs;
}

bool Rtc::AlarmBetween(int64_t after, int64_t until) const {
  const auto matches = [](uint8_t alarm, uint8_t shown) {
    return alarm >= kAnyValue || alarm == shown;
  };
  // Once round the clock is all there is.
  const int64_t first = std::max(after + 1, until - kSecondsPerDay + 1);
  for (int64_t second = first; second <= until; ++second) {
    const int64_t of_day = (second % kSecondsPerDay + kSecondsPerDay) % kSecondsPerDay;
    const RtcTimeOfDay time = EncodeRtcTimeOfDay(static_cast<uint32_t>(of_day), Format());
    if (matches(cmos_[kRtcSecondsAlarm], time.seconds) &&
        matches(cmos_[kRtcMinutesAlarm], time.minutes) &&
        matches(cmos_[kRtcHoursAlarm], time.hours)) {
      return true;
    }
  }
  return false;
}

void Rtc::Advance() {
  const int64_t now = GuestSeconds();
  const int64_t before = std::exchange(last_second_, now);
  if (Halted() || now <= before) {
    return;
  }
  cmos_[kFlagsC] |= kUpdateEndedBit;
  if ((cmos_[kFlagsC] & kAlarmBit) == 0 && AlarmBetween(before, now)) {
    cmos_[kFlagsC] |= kAlarmBit;
  }
}

void Rtc::UpdateInterrupt() {
  const uint8_t raised = cmos_[kFlagsC] & cmos_[kControlB] & (kAlarmBit | kUpdateEndedBit);
  const bool before = (cmos_[kFlagsC] & kInterruptFlag) != 0;
  if (raised == 0) {
    cmos_[kFlagsC] &= static_cast<uint8_t>(~kInterruptFlag);
  } else if (!before) {
    cmos_[kFlagsC] |= kInterruptFlag;
    if (line_ != nullptr) {
      line_->Trigger();
    }
  }
}

void Rtc::Read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0xff});  // the index cannot be read back
  if (offset <= 1 && offset + data.size() > 1) {
    const MutexLock lock(mutex_);
    data[1 - offset] = ReadRegister(index_);
  }
}

void Rtc::Write(uint64_t offset, std::span<const uint8_t> data) {
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < data.size() && offset + i < kSizeBytes; ++i) {
    if (offset + i == 0) {
      index_ = data[i] & kIndexMask;
    } else {
      WriteRegister(index_, data[i]);
    }
  }
}

uint8_t Rtc::ReadRegister(uint8_t reg) {
  if (reg == kCenturyRegister) {
    return ShownTime().century;
  }
  if (IsTime(reg)) {
    return ShownTime().registers[reg];
  }
  switch (reg) {
    case kControlA:
      return static_cast<uint8_t>(cmos_[kControlA] | (UpdateInProgress() ? kUpdateInProgress : 0));
    case kFlagsC:
      Advance();
      UpdateInterrupt();
      return std::exchange(cmos_[kFlagsC], uint8_t{0});
    case kValidD:
      return kPowerGood;
    default:
      return cmos_[reg];
  }
}

void Rtc::WriteRegister(uint8_t reg, uint8_t value) {
  Advance();  // what happened before the change counts by the old settings
  if (IsTime(reg)) {
    WriteTime(reg, value);
    return;
  }
  switch (reg) {
    case kControlA:
      cmos_[kControlA] = value & static_cast<uint8_t>(~kUpdateInProgress);
      break;
    case kControlB:
      WriteControl(value);
      break;
    case kFlagsC:
    case kValidD:
      break;  // read only
    default:
      cmos_[reg] = value;
      break;
  }
}

void Rtc::WriteTime(uint8_t reg, uint8_t value) {
  RtcTime time = ShownTime();
  (reg == kCenturyRegister ? time.century : time.registers[reg]) = value;
  if (Halted()) {
    halted_time_ = time;
  } else {
    SetTime(time);
  }
}

void Rtc::WriteControl(uint8_t value) {
  const bool was_halted = Halted();
  if (!was_halted && (value & kSet) != 0) {
    halted_time_ = ShownTime();
  }
  if ((value & kSet) != 0) {
    value &= static_cast<uint8_t>(~kUpdateEndedBit);  // SET clears that enable
  }
  cmos_[kControlB] = value;
  if (was_halted && (value & kSet) == 0) {
    SetTime(halted_time_);
  }
  UpdateInterrupt();
  changed_.notify_all();
}

void Rtc::SetTime(const RtcTime& time) {
  offset_seconds_ += DecodeRtcTime(time, Format()) - GuestSeconds();
  last_second_ = GuestSeconds();
}

bool Rtc::WantsInterrupts() const {
  return !paused_ && !Halted() && (cmos_[kControlB] & (kAlarmBit | kUpdateEndedBit)) != 0;
}

void Rtc::RunWorker() {
  // The condition variable lets go of the lock, which the analysis does not follow.
  std::unique_lock<Mutex> lock(mutex_);
  const auto stopping = [this]() NO_THREAD_SAFETY_ANALYSIS { return stopping_; };
  const auto wanted = [this]() NO_THREAD_SAFETY_ANALYSIS { return stopping_ || WantsInterrupts(); };
  const auto tick = [this]() NO_THREAD_SAFETY_ANALYSIS {
    if (WantsInterrupts()) {
      Advance();
      UpdateInterrupt();
    }
  };
  while (true) {
    changed_.wait(lock, wanted);
    if (stopping()) {
      return;
    }
    tick();
    const auto next = std::chrono::nanoseconds(kSecondNs - clock_() % kSecondNs);
    changed_.wait_for(lock, next, stopping);
  }
}

void Rtc::Pause() {
  const MutexLock lock(mutex_);
  paused_ = true;
}

void Rtc::Resume() {
  const MutexLock lock(mutex_);
  paused_ = false;
  if (std::exchange(restored_, false) && (cmos_[kFlagsC] & kInterruptFlag) != 0 &&
      line_ != nullptr) {
    line_->Trigger();
  }
  changed_.notify_all();
}

void Rtc::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  node.SetVersion(kRtcStateVersion);
  node.SetU64("index", index_);
  node.SetBytes("cmos", cmos_);
  node.SetU64("offset_seconds", static_cast<uint64_t>(offset_seconds_));
  node.SetBytes("halted_time", halted_time_.registers);
  node.SetU64("halted_century", halted_time_.century);
}

Status Rtc::Load(const StateNode& node) {
  const MutexLock lock(mutex_);
  TRY(node.Version(kRtcStateVersion));
  const auto offset = static_cast<int64_t>(TRY(node.U64("offset_seconds")));
  if (offset < -kOffsetLimitSeconds || offset > kOffsetLimitSeconds) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: clock is {} seconds off its host's",
                       offset);
  }
  const std::span<const uint8_t> cmos = TRY(node.BytesOf("cmos", cmos_.size()));
  const std::span<const uint8_t> halted =
      TRY(node.BytesOf("halted_time", halted_time_.registers.size()));
  index_ = TRY(node.Get<uint8_t>("index")) & kIndexMask;
  halted_time_.century = TRY(node.Get<uint8_t>("halted_century"));
  std::ranges::copy(halted, halted_time_.registers.begin());
  std::ranges::copy(cmos, cmos_.begin());
  offset_seconds_ = offset;
  last_second_ = GuestSeconds();
  restored_ = true;
  paused_ = true;
  return {};
}

}  // namespace pacsvisor
