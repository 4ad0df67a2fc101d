#include "devices/platform/rtc.h"

#include <time.h>

#include <algorithm>

namespace pacsvisor {
namespace {

constexpr uint32_t kStateVersion = 1;
constexpr uint8_t kIndexMask = 0x7f;  // bit 7 of the index port masks NMIs

constexpr uint8_t kSeconds = 0x00;
constexpr uint8_t kMinutes = 0x02;
constexpr uint8_t kHours = 0x04;
constexpr uint8_t kDayOfWeek = 0x06;  // 1 is Sunday
constexpr uint8_t kDayOfMonth = 0x07;
constexpr uint8_t kMonth = 0x08;
constexpr uint8_t kYear = 0x09;
constexpr uint8_t kControlA = 0x0a;
constexpr uint8_t kControlB = 0x0b;
constexpr uint8_t kControlC = 0x0c;
constexpr uint8_t kControlD = 0x0d;
constexpr uint8_t kCentury = 0x32;

constexpr uint8_t kAUpdateInProgress = 1u << 7;
constexpr uint8_t kADivider32KHz = 0x26;  // running, 1,024 Hz rate: what firmware leaves
constexpr uint8_t kBSet = 1u << 7;
constexpr uint8_t kBBinary = 1u << 2;
constexpr uint8_t kB24Hours = 1u << 1;
constexpr uint8_t kCUpdateEnded = 1u << 4;
constexpr uint8_t kDValid = 1u << 7;
constexpr uint8_t kHourPm = 1u << 7;

constexpr uint64_t kNsPerSecond = 1'000'000'000;
// Data sheet, table 6: the update begins 244 us after UIP is set; it is over when the second turns.
constexpr uint64_t kUpdateWindowNs = 244'000;

bool IsTime(uint8_t index) {
  return index == kSeconds || index == kMinutes || index == kHours ||
         (index >= kDayOfWeek && index <= kYear) || index == kCentury;
}

}  // namespace

Rtc::Rtc(std::function<uint64_t()> now_ns) : now_ns_(std::move(now_ns)) {
  cmos_[kControlA] = kADivider32KHz;
  cmos_[kControlB] = kB24Hours;
}

void Rtc::Read(uint64_t offset, std::span<uint8_t> data) {
  const MutexLock lock(mutex_);
  for (uint8_t& byte : data) {
    byte = offset++ == 0 ? index_ : ReadRegister(index_);
  }
}

void Rtc::Write(uint64_t offset, std::span<const uint8_t> data) {
  const MutexLock lock(mutex_);
  for (const uint8_t byte : data) {
    if (offset++ == 0) {
      index_ = byte & kIndexMask;
    } else {
      WriteRegister(index_, byte);
    }
  }
}

int64_t Rtc::GuestSeconds() const {
  return static_cast<int64_t>(now_ns_() / kNsPerSecond) + offset_seconds_;
}

uint8_t Rtc::Encode(unsigned value) const {
  return static_cast<uint8_t>((cmos_[kControlB] & kBBinary) != 0 ? value
                                                                 : value / 10 * 16 + value % 10);
}

unsigned Rtc::Decode(uint8_t value) const {
  return (cmos_[kControlB] & kBBinary) != 0 ? value : (value >> 4) * 10u + (value & 15u);
}

uint8_t Rtc::ReadRegister(uint8_t index) {
  if (IsTime(index)) {
    LatchTime();
    return cmos_[index];
  }
  switch (index) {
    case kControlA: {
      const bool updating = (cmos_[kControlB] & kBSet) == 0 &&
                            now_ns_() % kNsPerSecond >= kNsPerSecond - kUpdateWindowNs;
      return static_cast<uint8_t>(cmos_[kControlA] | (updating ? kAUpdateInProgress : 0));
    }
    case kControlC: {
      const int64_t now = GuestSeconds();
      const bool turned = now != flags_read_at_;
      flags_read_at_ = now;
      return turned ? kCUpdateEnded : 0;
    }
    case kControlD:
      return kDValid;
    default:
      return cmos_[index];
  }
}

void Rtc::WriteRegister(uint8_t index, uint8_t value) {
  if (IsTime(index)) {
    LatchTime();
    cmos_[index] = value;
    if ((cmos_[kControlB] & kBSet) == 0) {
      TakeTimeFromRegisters();
    }
    return;
  }
  switch (index) {
    case kControlA:
      cmos_[kControlA] = value & static_cast<uint8_t>(~kAUpdateInProgress);
      break;
    case kControlB:
      WriteControlB(value);
      break;
    case kControlC:
    case kControlD:
      break;  // read only
    default:
      cmos_[index] = value;
      break;
  }
}

void Rtc::WriteControlB(uint8_t value) {
  const bool was_set = (cmos_[kControlB] & kBSet) != 0;
  const bool is_set = (value & kBSet) != 0;
  if (!was_set && is_set) {
    LatchTime();  // the registers stand still from here on
  }
  cmos_[kControlB] = value;
  if (was_set && !is_set) {
    TakeTimeFromRegisters();
  }
}

void Rtc::LatchTime() {
  if ((cmos_[kControlB] & kBSet) != 0) {
    return;
  }
  const time_t seconds = GuestSeconds();
  tm parts{};
  if (::gmtime_r(&seconds, &parts) == nullptr) {
    return;
  }
  const auto year = static_cast<unsigned>(parts.tm_year + 1900);
  const auto hour = static_cast<unsigned>(parts.tm_hour);
  cmos_[kSeconds] = Encode(static_cast<unsigned>(parts.tm_sec));
  cmos_[kMinutes] = Encode(static_cast<unsigned>(parts.tm_min));
  if ((cmos_[kControlB] & kB24Hours) != 0) {
    cmos_[kHours] = Encode(hour);
  } else {
    const unsigned twelve = hour % 12 == 0 ? 12 : hour % 12;
    cmos_[kHours] = static_cast<uint8_t>(Encode(twelve) | (hour >= 12 ? kHourPm : 0));
  }
  cmos_[kDayOfWeek] = Encode(static_cast<unsigned>(parts.tm_wday + 1));
  cmos_[kDayOfMonth] = Encode(static_cast<unsigned>(parts.tm_mday));
  cmos_[kMonth] = Encode(static_cast<unsigned>(parts.tm_mon + 1));
  cmos_[kYear] = Encode(year % 100);
  cmos_[kCentury] = Encode(year / 100);
}

// Whatever the guest wrote: fields out of range are carried over by timegm, as a clock would.
void Rtc::TakeTimeFromRegisters() {
  tm parts{};
  parts.tm_sec = static_cast<int>(Decode(cmos_[kSeconds]));
  parts.tm_min = static_cast<int>(Decode(cmos_[kMinutes]));
  unsigned hour = 0;
  if ((cmos_[kControlB] & kB24Hours) != 0) {
    hour = Decode(cmos_[kHours]);
  } else {
    hour = Decode(cmos_[kHours] & static_cast<uint8_t>(~kHourPm)) % 12 +
           ((cmos_[kHours] & kHourPm) != 0 ? 12 : 0);
  }
  parts.tm_hour = static_cast<int>(hour);
  parts.tm_mday = static_cast<int>(Decode(cmos_[kDayOfMonth]));
  parts.tm_mon = static_cast<int>(Decode(cmos_[kMonth])) - 1;
  parts.tm_year = static_cast<int>(Decode(cmos_[kCentury]) * 100 + Decode(cmos_[kYear])) - 1900;
  offset_seconds_ = ::timegm(&parts) - static_cast<int64_t>(now_ns_() / kNsPerSecond);
}

void Rtc::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  node.SetVersion(kStateVersion);
  node.SetU64("index", index_);
  node.SetU64("offset_seconds", static_cast<uint64_t>(offset_seconds_));  // two's complement
  node.SetBytes("cmos", cmos_);
}

Status Rtc::Load(const StateNode& node) {
  TRY(node.Version(kStateVersion));
  const auto index = TRY(node.Get<uint8_t>("index"));
  const auto offset_seconds = static_cast<int64_t>(TRY(node.U64("offset_seconds")));
  const MutexLock lock(mutex_);
  const std::span<const uint8_t> cmos = TRY(node.BytesOf("cmos", cmos_.size()));
  // A million years either way keep every sum within range.
  constexpr int64_t kFarthestSeconds = int64_t{1'000'000} * 366 * 86'400;
  if (offset_seconds > kFarthestSeconds || offset_seconds < -kFarthestSeconds) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: the clock is {} s off", offset_seconds);
  }
  index_ = index & kIndexMask;
  offset_seconds_ = offset_seconds;
  std::copy(cmos.begin(), cmos.end(), cmos_.begin());
  return {};
}

}  // namespace pacsvisor
