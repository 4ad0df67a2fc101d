// When the next snapshot of a schedule is due. Times are nanoseconds of CLOCK_MONOTONIC, told by
// the caller. Threads: one at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pacsvisor {

class SnapshotSchedule {
 public:
  // After the start of a machine its guest is left alone for so long, or one period if that is
  // less.
  static constexpr uint64_t kFirstAfterNs = 60'000'000'000;
  // A failure is tried again after this, then twice this and so on; one period at the most.
  static constexpr uint64_t kRetryAfterNs = 30'000'000'000;
  // When something else is in its way (another snapshot): no failure.
  static constexpr uint64_t kBusyAfterNs = 5'000'000'000;

  // `newest_age_ns`: how old the newest snapshot of the schedule is, where there is one.
  SnapshotSchedule(uint64_t every_ns, std::optional<uint64_t> newest_age_ns, uint64_t now_ns);

  uint64_t due_ns() const { return due_ns_; }
  uint64_t failures() const { return failures_; }  // since the last success
  const std::string& last_error() const { return last_error_; }

  // One that was begun at `begin_ns`: the next one is due a period after that, or at once when it
  // took longer.
  void Done(uint64_t begin_ns);
  void Failed(uint64_t now_ns, std::string error);
  void Busy(uint64_t now_ns);

 private:
  uint64_t every_ns_;
  uint64_t due_ns_;
  uint64_t failures_ = 0;
  std::string last_error_;
};

}  // namespace pacsvisor
