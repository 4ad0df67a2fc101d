#include "vmm/machine/machine.h"

#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/machine/host_resources.h"
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

MemoryFaults* Machine::memory_faults() { return parts_->faults.get(); }

const std::vector<SealedView*>& Machine::sealed_views() const { return parts_->ends.sealed_views; }

LocalLine* Machine::agent_line() { return parts_->ends.agent.get(); }

DirtyTracker& Machine::tracker() { return *parts_->tracking.tracker; }

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
    StandStill();
    paused_ = true;
  }
  return {};
}

void Machine::StandStill() {
  parts_->vcpus.Pause();
  parts_->virtio.Pause();
  parts_->platform->Pause();
}

void Machine::GoOn() {
  // The guest is told, or its watchdogs would take the pause for a hang.
  for (const auto& thread : parts_->vcpus.threads()) {
    thread->vcpu().NotifyPaused();
  }
  parts_->platform->Resume();
  parts_->virtio.Resume();
  parts_->vcpus.Resume();
}

Status Machine::AtInstant(const std::function<Status()>& work, PauseTimes& times) {
  const MutexLock lock(control_mutex_);
  if (!started_) {
    return Error::Make(ErrorCode::kBusy, "machine {} has not started", config_.name);
  }
  times.begun_ns = MonotonicNs();
  if (!paused_) {
    StandStill();
  }
  times.stopped_ns = MonotonicNs();
  // vCPUs of a machine that ends are not waited for, and may be in guest code still.
  Status done = Ended() ? Error::Make(ErrorCode::kCancelled, "the machine has ended") : Status();
  if (done.ok()) {
    at_instant_ = true;
    done = work();
    at_instant_ = false;
  }
  times.resuming_ns = MonotonicNs();
  if (!paused_) {
    GoOn();
  }
  times.resumed_ns = MonotonicNs();
  return done;
}

bool Machine::Ended() {
  const MutexLock lock(end_mutex_);
  return end_ != nullptr;
}

Status Machine::Resume() {
  const MutexLock lock(control_mutex_);
  if (!started_) {
    return Error::Make(ErrorCode::kBusy, "machine {} has not started", config_.name);
  }
  if (paused_) {
    GoOn();
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

Status Machine::CanRestoreLazily() const {
  if (parts_->faults == nullptr) {
    return parts_->faults_problem;
  }
  if (options_.host->tracking.kind == Tracking::kCompare) {
    return Error::Make(ErrorCode::kUnsupported,
                       "tracking = \"compare\" reads all of it anyway (VM.toml)");
  }
  return {};
}

Status Machine::RestoreLazily(std::shared_ptr<PageSource> source, std::vector<Extent> first) {
  const MutexLock lock(control_mutex_);
  CHECK(!started_ && parts_->faults != nullptr, "machine {} cannot fetch its memory", config_.name);
  return parts_->faults->StartLazy(std::move(source), std::move(first));
}

MemoryFaults::Progress Machine::GetMemoryProgress() const {
  const uint64_t pages = parts_->memory->page_count();
  return parts_->faults == nullptr ? MemoryFaults::Progress{.pages_there = pages, .pages = pages}
                                   : parts_->faults->GetProgress();
}

Machine::DiskProgress Machine::GetDiskProgress(size_t disk) const {
  const LayeredDisk* layered = parts_->ends.layered_disks[disk];
  return layered == nullptr ? DiskProgress{}
                            : DiskProgress{.left_bytes = layered->blocks_in_source() *
                                                         layered->dirty_block_bytes(),
                                           .needs_source = layered->needs_source()};
}

void Machine::FetchDiskAgain(size_t disk) {
  if (LayeredDisk* layered = parts_->ends.layered_disks[disk]; layered != nullptr) {
    layered->FetchAgain();
  }
}

void Machine::LoseMemory(const std::string& reason) {
  if (options_.on_memory_lost) {
    parts_->vcpus.RequestStop();
    options_.on_memory_lost(reason);
    return;
  }
  End(MachineEnd::Reason::kHostFailure, reason);
  parts_->faults->CutOff();  // who waits for a page in the kernel comes back
}

std::vector<DeviceFaults> Machine::GuestFaults() const {
  std::vector<DeviceFaults> devices = parts_->virtio.GuestFaults();
  devices.push_back({"pci", parts_->pci.faults().NonZero()});
  devices.push_back({"host_bridge", parts_->pci.host_bridge_faults().NonZero()});
  devices.push_back({"ports", parts_->ports.faults().NonZero()});
  devices.push_back({"mmio", parts_->mmio.faults().NonZero()});
  return devices;
}

void Machine::PressPowerButton() { parts_->platform->PressPowerButton(); }

void Machine::ForceStop() { End(MachineEnd::Reason::kForced, {}); }

void Machine::ConsoleInput(std::span<const uint8_t> bytes) {
  parts_->platform->ConsoleInput(bytes);
}

}  // namespace pacsvisor
