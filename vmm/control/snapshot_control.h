// A snapshot as the control API and the machine behind it talk about it: what is asked for, how far
// it is, what came of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace pacsvisor {

struct SnapshotRequest {
  static constexpr size_t kMaxMessageBytes = 1024;
  static constexpr uint64_t kDefaultPauseBudgetUs = 5'000;
  static constexpr uint64_t kMinPauseBudgetUs = 1;
  static constexpr uint64_t kMaxPauseBudgetUs = 60'000'000;
  static constexpr uint32_t kDefaultQuiesceTimeoutMs = 10'000;
  static constexpr uint32_t kMaxQuiesceTimeoutMs = 600'000;

  std::string message;                               // UTF-8 without control characters
  uint64_t pause_budget_us = kDefaultPauseBudgetUs;  // one that cannot be met is recorded, no error
  bool quiesce = false;                              // the guest agent freezes the file systems
  uint32_t quiesce_timeout_ms = kDefaultQuiesceTimeoutMs;
  // By the machine's own schedule, whose rules then say which of its snapshots are removed. Not
  // for clients.
  bool scheduled = false;
};

// Limits of the above; kInvalidArgument says which.
Status CheckSnapshotRequest(const SnapshotRequest& request);

enum class SnapshotPhase {
  kCopying,     // ahead, while the guest runs
  kPausing,     // the guest stands still
  kWriting,     // what the pause left, behind the guest's back
  kCommitting,  // making it durable
  kDone,
  kFailed,
};

std::string_view SnapshotPhaseName(SnapshotPhase phase);  // "copying", …
std::optional<SnapshotPhase> ParseSnapshotPhase(std::string_view name);

struct SnapshotResult {
  std::string id;      // 64 hex digits
  std::string parent;  // the same; empty: it has none
  // By name, the unit last: "pause_ns", "durable_ns", "rounds", "dirty_bytes", "unique_bytes",
  // "stored_bytes"; the make-up of the pause as "pause_kick_ns", "pause_state_ns", ….
  std::map<std::string, uint64_t> figures;
  std::string consistency = "crash";  // or "quiesced"
  std::vector<std::string> warnings;  // what was asked for and did not come about
  bool budget_met = false;
};

struct SnapshotProgress {
  uint64_t number = 0;  // of this machine's process, from 1
  SnapshotPhase phase = SnapshotPhase::kCopying;
  uint64_t bytes_done = 0;  // of the phase; 0 of 0 where it has no such measure
  uint64_t bytes_total = 0;
  std::optional<SnapshotResult> result;  // with kDone, then always
  std::optional<Error> error;            // with kFailed, then always
};

// Whoever takes a snapshot tells how far it is, and asks whether to go on.
// Threads: any.
class SnapshotObserver {
 public:
  virtual ~SnapshotObserver() = default;

  // None of kDone and kFailed: these follow from the result. Takes a lock for a moment.
  virtual void Progress(SnapshotPhase phase, uint64_t bytes_done, uint64_t bytes_total) = 0;
  // Once true, true for ever: the snapshot is to end soon with kCancelled, nothing of it kept.
  // Cheap.
  virtual bool cancelled() const = 0;
};

}  // namespace pacsvisor
