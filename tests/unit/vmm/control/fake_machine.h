// A machine that only remembers what it was told.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "vmm/base/thread_annotations.h"
#include "vmm/control/machine_control.h"

namespace pacsvisor {

class FakeMachine : public MachineControl {
 public:
  FakeMachine() {
    description_.name = "pacs";
    description_.pid = 4711;
    description_.cpus = 2;
    description_.memory_bytes = 2ul << 30;
    description_.memory_there_bytes = 1ul << 30;
    description_.uptime_ms = 5;
    description_.process_start_ns = 1'000'000'000;
    description_.restore_start_ns = 1'005'000'000;
    description_.first_entry_ns = 1'008'000'000;
    description_.disks = {{.path = "/vm/root.raw",
                           .serial = "root",
                           .size_bytes = 1ul << 30,
                           .there_bytes = 1ul << 29},
                          {.path = "/vm/data.raw", .size_bytes = 4096, .read_only = true}};
    description_.nets = {{.backend = "user",
                          .mac = "52:54:00:00:00:01",
                          .forwards = {"127.0.0.1:4242:4242"},
                          .isolated = true}};
    description_.faults = {{"disk0", {{"chain_loop", 2}, {"block_beyond_end", 7}}},
                           {"ports", {{"port_unanswered", 40}}}};
    description_.schedule = {
        .every_ms = 3'600'000, .next_in_ms = 5, .failures = 2, .last_error = "no space left"};
    description_.store = "/vm/store";
    description_.version = "0.1.0";
  }

  MachineDescription Describe() override {
    MutexLock lock(mutex_);
    return description_;
  }
  Status Pause() override { return Note("pause", MachineState::kPaused); }
  Status Resume() override { return Note("resume", MachineState::kRunning); }
  Status RequestStop(const StopRequest& request) override {
    return Note(fmt::format("stop {} {}", request.grace_seconds, request.force),
                MachineState::kStopping);
  }
  Result<uint64_t> StartSnapshot(const SnapshotRequest& request) override {
    TRY(Note(fmt::format("snapshot '{}' {} {} {}", request.message, request.pause_budget_us,
                         request.quiesce, request.quiesce_timeout_ms)));
    return kSnapshot;
  }
  // Each answer but the last is given once.
  Result<SnapshotProgress> SnapshotStatus(uint64_t number) override {
    MutexLock lock(mutex_);
    TRY(CheckNumber(number));
    SnapshotProgress progress = progress_.front();
    if (progress_.size() > 1) {
      progress_.erase(progress_.begin());
    }
    return progress;
  }
  // A snapshot that is cancelled has failed when it is next asked for.
  Status CancelSnapshot(uint64_t number) override {
    TRY(Note(fmt::format("cancel {}", number)));
    MutexLock lock(mutex_);
    TRY(CheckNumber(number));
    progress_ = {{.number = kSnapshot,
                  .phase = SnapshotPhase::kFailed,
                  .error = Error::Make(ErrorCode::kCancelled, "it was cancelled")}};
    return {};
  }

  // The one snapshot that it knows.
  static constexpr uint64_t kSnapshot = 1;
  static SnapshotProgress DoneSnapshot() {
    return {.number = kSnapshot,
            .phase = SnapshotPhase::kDone,
            .bytes_done = 4096,
            .bytes_total = 4096,
            .result = SnapshotResult{.id = std::string(64, 'a'),
                                     .parent = std::string(64, 'b'),
                                     .figures = {{"pause_ns", 900'000},
                                                 {"pause_copy_ns", 400'000},
                                                 {"pause_kick_ns", 500'000},
                                                 {"durable_ns", 1'200'000'000},
                                                 {"dirty_bytes", 64ul << 20},
                                                 {"unique_bytes", 16ul << 20},
                                                 {"stored_bytes", 4ul << 20}},
                                     .budget_met = true}};
  }
  void SetProgress(std::vector<SnapshotProgress> progress) {
    MutexLock lock(mutex_);
    progress_ = std::move(progress);
  }

  void FailWith(Error error) {
    MutexLock lock(mutex_);
    failure_ = std::move(error);
  }
  void SucceedAgain() {
    MutexLock lock(mutex_);
    failure_ = Status();
  }
  void SetDescription(MachineDescription description) {
    MutexLock lock(mutex_);
    description_ = std::move(description);
  }
  std::vector<std::string> calls() {
    MutexLock lock(mutex_);
    return calls_;
  }

 private:
  Status Note(std::string call, MachineState state) {
    MutexLock lock(mutex_);
    calls_.push_back(std::move(call));
    if (!failure_.ok()) {
      return failure_;
    }
    description_.state = state;
    return {};
  }
  Status Note(std::string call) {
    MutexLock lock(mutex_);
    calls_.push_back(std::move(call));
    return failure_;
  }
  Status CheckNumber(uint64_t number) const REQUIRES(mutex_) {
    if (!failure_.ok() || number == kSnapshot) {
      return failure_;
    }
    return Error::Make(ErrorCode::kNotFound, "there is no snapshot number {}", number);
  }

  Mutex mutex_;
  MachineDescription description_ GUARDED_BY(mutex_);
  std::vector<std::string> calls_ GUARDED_BY(mutex_);
  Status failure_ GUARDED_BY(mutex_);
  std::vector<SnapshotProgress> progress_ GUARDED_BY(mutex_) = {DoneSnapshot()};
};

}  // namespace pacsvisor
