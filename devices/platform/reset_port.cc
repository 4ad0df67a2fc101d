#include "devices/platform/reset_port.h"

#include <algorithm>
#include <utility>

namespace pacsvisor {
namespace {

constexpr uint8_t kPulseReset = 0xfe;
constexpr uint8_t kResetProcessor = 1u << 2;
constexpr uint8_t kNoController = 0xff;
// A driver that looks for a controller reads the status 17 times at most before it gives up: its
// "output buffer full" never goes away. A kernel about to reset waits for "input buffer full" to go
// away, up to 65,536 reads. So the status is free once in a while.
constexpr unsigned kReadsUntilFree = 64;

}  // namespace

ResetPort::ResetPort(Kind kind, std::function<void()> reset)
    : kind_(kind), reset_(std::move(reset)) {}

uint8_t ResetPort::KeyboardStatus() {
  return status_reads_.fetch_add(1) % kReadsUntilFree == kReadsUntilFree - 1 ? 0 : kNoController;
}

void ResetPort::Read(uint64_t /*offset*/, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0xff});
  data[0] = kind_ == Kind::kResetControl ? control_.load() : KeyboardStatus();
}

void ResetPort::Write(uint64_t /*offset*/, std::span<const uint8_t> data) {
  if (kind_ == Kind::kResetControl) {
    control_ = data[0];
    if ((data[0] & kResetProcessor) != 0) {
      reset_();
    }
    return;
  }
  status_reads_ = 0;
  if (data[0] == kPulseReset) {
    reset_();
  }
}

}  // namespace pacsvisor
