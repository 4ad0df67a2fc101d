#include "vmm/machine/machine.h"

#include <utility>

#include "vmm/base/log.h"
#include "vmm/machine/machine_parts.h"

namespace pacsvisor {

Machine::Machine(const MachineConfig& config, MachineOptions options)
    : config_(config), options_(std::move(options)) {}

Machine::~Machine() {
  if (parts_ != nullptr) {
    parts_->vcpus.RequestStop();
    parts_->vcpus.Join();
  }
}

GuestMemory& Machine::memory() { return *parts_->memory; }

Status Machine::Start() {
  const MutexLock lock(control_mutex_);
  CHECK(!started_, "machine {} started twice", config_.name);
  TRY(parts_->vcpus.Start());
  started_ = true;
  paused_ = false;
  parts_->platform->Resume();
  parts_->virtio.Resume();
  parts_->vcpus.Resume();
  return {};
}

MachineEnd Machine::Wait() {
  MachineEnd end;
  {
    const MutexLock lock(end_mutex_);
    while (end_ == nullptr) {
      ended_.wait(end_mutex_);
    }
    end = *end_;
  }
  parts_->vcpus.Join();
  return end;
}

void Machine::End(MachineEnd::Reason reason, std::string report) {
  const MutexLock lock(end_mutex_);
  if (end_ != nullptr) {
    return;  // the first reason counts: what follows is its consequence
  }
  end_ = std::make_unique<MachineEnd>(MachineEnd{reason, std::move(report)});
  parts_->vcpus.RequestStop();
  ended_.notify_all();
}

Status Machine::Pause() {
  const MutexLock lock(control_mutex_);
  if (!started_) {
    return Error::Make(ErrorCode::kBusy, "machine {} has not started", config_.name);
  }
  if (!paused_) {
    parts_->vcpus.Pause();
    parts_->virtio.Pause();
    parts_->platform->Pause();
    paused_ = true;
  }
  return {};
}

Status Machine::Resume() {
  const MutexLock lock(control_mutex_);
  if (!started_) {
    return Error::Make(ErrorCode::kBusy, "machine {} has not started", config_.name);
  }
  if (paused_) {
    // The guest is told, or its watchdogs would take the pause for a hang.
    for (const auto& thread : parts_->vcpus.threads()) {
      thread->vcpu().NotifyPaused();
    }
    parts_->platform->Resume();
    parts_->virtio.Resume();
    parts_->vcpus.Resume();
    paused_ = false;
  }
  return {};
}

bool Machine::paused() const {
  const MutexLock lock(control_mutex_);
  return paused_;
}

uint64_t Machine::first_entry_ns() const {
  return parts_->vcpus.threads().front()->first_entry_ns();
}

void Machine::PressPowerButton() { parts_->platform->PressPowerButton(); }

void Machine::ForceStop() { End(MachineEnd::Reason::kForced, {}); }

void Machine::ConsoleInput(std::span<const uint8_t> bytes) {
  parts_->platform->ConsoleInput(bytes);
}

}  // namespace pacsvisor
