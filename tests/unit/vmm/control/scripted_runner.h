// Machines of a session that do what a test's script says.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/base/thread_annotations.h"
#include "vmm/control/machine_session.h"

namespace pacsvisor {

// What the test knows of all the machines that a session built.
class Script {
 public:
  void Note(const std::string& call) {
    MutexLock lock(mutex_);
    calls_.push_back(call);
    changed_.notify_all();
  }
  std::vector<std::string> calls() {
    MutexLock lock(mutex_);
    return calls_;
  }
  void WaitForCalls(size_t count) {
    MutexLock lock(mutex_);
    while (calls_.size() < count) {
      changed_.wait(mutex_);
    }
  }
  // The machine that runs ends like this.
  void End(MachineEnd::Reason reason) {
    MutexLock lock(mutex_);
    end_ = reason;
    changed_.notify_all();
  }
  MachineEnd::Reason WaitForEnd() {
    MutexLock lock(mutex_);
    while (!end_) {
      changed_.wait(mutex_);
    }
    const MachineEnd::Reason reason = *end_;
    end_.reset();
    return reason;
  }

  void HoldPauses() {
    MutexLock lock(mutex_);
    pauses_held_ = true;
  }
  void LetPausesGo() {
    MutexLock lock(mutex_);
    pauses_held_ = false;
    changed_.notify_all();
  }
  void WaitForPauses() {
    MutexLock lock(mutex_);
    while (pauses_held_) {
      changed_.wait(mutex_);
    }
  }

  // Snapshots that are begun end with what is set here, not before; a cancelled one by itself.
  void EndSnapshots(Result<SnapshotResult> outcome) {
    MutexLock lock(mutex_);
    snapshot_outcome_ = std::move(outcome);
    changed_.notify_all();
  }
  Result<SnapshotResult> WaitForSnapshot(const SnapshotObserver& observer) {
    MutexLock lock(mutex_);
    while (!snapshot_outcome_) {
      if (observer.cancelled()) {
        return Error::Make(ErrorCode::kCancelled, "noticed");
      }
      changed_.wait_for(mutex_, std::chrono::milliseconds(1));
    }
    return *snapshot_outcome_;
  }

  std::atomic<bool> obeys_button = true;
  std::atomic<int> alive = 0;
  Status start_result;

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::string> calls_ GUARDED_BY(mutex_);
  std::optional<MachineEnd::Reason> end_ GUARDED_BY(mutex_);
  bool pauses_held_ GUARDED_BY(mutex_) = false;
  std::optional<Result<SnapshotResult>> snapshot_outcome_ GUARDED_BY(mutex_);
};

class ScriptedRunner : public MachineRunner {
 public:
  explicit ScriptedRunner(Script& script) : script_(script) { EXPECT_EQ(++script_.alive, 1); }
  ~ScriptedRunner() override { --script_.alive; }

  Status Start() override {
    script_.Note("start");
    return script_.start_result;
  }
  MachineEnd Wait() override { return {.reason = script_.WaitForEnd(), .report = "report"}; }
  Status Pause() override {
    script_.Note("pause");
    script_.WaitForPauses();
    return {};
  }
  Status Resume() override {
    script_.Note("resume");
    return {};
  }
  void PressPowerButton() override {
    script_.Note("button");
    if (script_.obeys_button) {
      script_.End(MachineEnd::Reason::kPowerOff);
    }
  }
  void ForceStop() override {
    script_.Note("force");
    script_.End(MachineEnd::Reason::kForced);
  }
  void ConsoleInput(std::span<const uint8_t> bytes) override {
    script_.Note("input " + std::string(bytes.begin(), bytes.end()));
  }
  Result<SnapshotResult> Snapshot(const SnapshotRequest& request,
                                  SnapshotObserver& observer) override {
    observer.Progress(SnapshotPhase::kCopying, 1, 2);
    script_.Note("snapshot " + request.message);
    Result<SnapshotResult> outcome = script_.WaitForSnapshot(observer);
    script_.Note("snapshot ends");
    return outcome;
  }

 private:
  Script& script_;
};

class MachineSessionTest : public testing::Test {
 protected:
  void SetUp() override {
    thread_ = std::thread([this] { exit_ = session_.Run(); });
    script_.WaitForCalls(1);
    WaitUntilOperable();
  }
  Result<MachineEnd> Join() {
    thread_.join();
    return *exit_;
  }
  // Started is noted before the session may use the machine.
  void WaitUntilOperable() {
    while (!session_.Resume().ok()) {
      std::this_thread::yield();
    }
  }
  // What follows the start and the one Resume that succeeded.
  std::vector<std::string> Calls() {
    std::vector<std::string> calls = script_.calls();
    calls.erase(calls.begin(), calls.begin() + 2);
    return calls;
  }

  Script script_;
  std::atomic<int> forces_ = 0;  // as the owner of the process is told of them
  MachineSession session_{
      {.name = "pacs", .store = "/vm/store"},
      [this](const ConsoleOutput&) -> Result<std::unique_ptr<MachineRunner>> {
        return std::unique_ptr<MachineRunner>(std::make_unique<ScriptedRunner>(script_));
      },
      [](std::span<const uint8_t>) {},
      [this] { ++forces_; }};
  std::optional<Result<MachineEnd>> exit_;
  std::thread thread_;
};

}  // namespace pacsvisor
