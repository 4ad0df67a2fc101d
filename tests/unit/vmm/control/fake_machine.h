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
    description_.uptime_ms = 5;
    description_.process_start_ns = 1'000'000'000;
    description_.first_entry_ns = 1'008'000'000;
    description_.disks = {{.path = "/vm/root.raw", .serial = "root", .size_bytes = 1ul << 30},
                          {.path = "/vm/data.raw", .size_bytes = 4096, .read_only = true}};
    description_.nets = {{.backend = "user",
                          .mac = "52:54:00:00:00:01",
                          .forwards = {"127.0.0.1:4242:4242"},
                          .isolated = true}};
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

  void FailWith(Error error) {
    MutexLock lock(mutex_);
    failure_ = std::move(error);
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

  Mutex mutex_;
  MachineDescription description_ GUARDED_BY(mutex_);
  std::vector<std::string> calls_ GUARDED_BY(mutex_);
  Status failure_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
