// One machine: guest memory, vCPUs, devices, built from a configuration, run, paused, saved,
// loaded.
//
// Threads. Build, Start, Pause, Resume, Save and Load belong to control threads and exclude one
// another (control_mutex_). PressPowerButton, ForceStop and ConsoleInput may be called from any
// thread, Wait from one. Devices end the machine from vCPU threads (End).
//
// Lock order, outermost first; a thread that holds one takes only those below it:
//   control_mutex_ (Machine)
//   PciBus::mutex_            configuration space
//   VirtioPciTransport        transport's lock
//   a device's queue lock     one a device
//   BlockBackend's lock; a net back end's
//   VcpuThread::mutex_, Machine::end_mutex_, DirtyRingSource::mutex_, Bus, DirtyBitmap, EventFd:
//   leaves
// Who touches guest memory while a restore is lazy may have to wait for a page, whatever it holds:
// the threads that fetch pages take none of these but, to end the machine, end_mutex_ and
// VcpuThread::mutex_, with which nobody touches guest memory.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/bus/guest_fault.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/dirty/dirty_tracker.h"
#include "vmm/machine/config.h"
#include "vmm/memory/memory_faults.h"
#include "vmm/snapshot/snapshot_subject.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

struct HostResources;
class LocalLine;
class SealedView;

struct MachineEnd {
  enum class Reason {
    kPowerOff,     // the guest powered off
    kReset,        // the guest asked for a reset: build a new machine in its place
    kForced,       // ForceStop
    kGuestFault,   // a vCPU cannot go on; `report` is the fault report
    kHostFailure,  // something of the host the machine cannot go on without
  };
  Reason reason = Reason::kPowerOff;
  std::string report;
};

struct MachineOptions {
  // Bytes of the guest's serial console, on a thread of the machine; must not block for long.
  std::function<void(std::span<const uint8_t>)> console_output;
  // Opened for this configuration.
  std::shared_ptr<const HostResources> host;
  // Memory is left empty, for Load, though the host's resources hold a kernel.
  bool for_load = false;
  // Pages of guest memory cannot be had: called once, on a thread that others wait for, when the
  // vCPUs have been told to stop. Ends the process soon, does not wait itself. Threads of the
  // machine may wait for the pages for good, so that nothing here returns that needs them. Without
  // it the machine ends with kHostFailure; a device that touches memory then is a crash.
  std::function<void(const std::string& reason)> on_memory_lost;
};

class Machine {
 public:
  // A machine that has not started, with its kernel loaded. Where the host's resources hold none,
  // memory is left empty: for Load.
  static Result<std::unique_ptr<Machine>> Build(const MachineConfig& config,
                                                MachineOptions options);
  ~Machine();

  // Starts threads; the vCPUs run when it returns. A loaded machine starts where it was saved.
  Status Start();
  // Returns when the machine has ended; its vCPUs stand still then.
  MachineEnd Wait();

  // Pause returns when vCPUs and devices stand still (no device waits for the host's I/O). Pausing
  // a paused machine, resuming a running one: nothing happens.
  Status Pause();
  Status Resume();
  bool paused() const;
  // A snapshot's pause: stands the machine still, does `work`, lets it go on whatever became of
  // that (a machine that was paused before stays so). Within it SaveAtInstant may be called.
  // kCancelled when the machine has ended, or ends before it stands still: nothing was done then.
  Status AtInstant(const std::function<Status()>& work, PauseTimes& times);
  Status SaveAtInstant(StateNode& node) const;
  // When the first vCPU first entered guest code (CLOCK_MONOTONIC), 0 before that. Any thread.
  uint64_t first_entry_ns() const;

  // How often the guest broke the hardware's rules since the machine was built: virtio devices by
  // name, then "pci", "host_bridge", "ports" and "mmio". Any thread.
  std::vector<DeviceFaults> GuestFaults() const;

  void PressPowerButton();
  void ForceStop();
  void ConsoleInput(std::span<const uint8_t> bytes);

  // Paused: everything but the bytes of memory and disks. Between Build without a kernel and Start:
  // Load, after memory has its bytes.
  Status Save(StateNode& node) const;
  Status Load(const StateNode& node, uint64_t clock_advance_ns = 0);
  // After Load: the guest is told at its start that it is another one than that which was saved.
  Status RenewGenerationId();

  // Whether RestoreLazily can be; if not, what of host or configuration is in its way.
  Status CanRestoreLazily() const;
  // Before Load, instead of filling memory: it is `source`'s from now on, fetched as it is touched;
  // `first` before the rest. A page that cannot be fetched ends the machine (on_memory_lost).
  Status RestoreLazily(std::shared_ptr<PageSource> source, std::vector<Extent> first);
  // How far that is; whole where there was none. Any thread.
  MemoryFaults::Progress GetMemoryProgress() const;

  // How far each disk of the configuration is that is fetched from a snapshot while it is used. Any
  // thread.
  struct DiskProgress {
    uint64_t left_bytes = 0;    // not fetched yet, of whole blocks
    bool needs_source = false;  // LayeredDisk::needs_source
  };
  DiskProgress GetDiskProgress(size_t disk) const;
  // Its fetching goes on if it has stopped because a fetch failed. Any thread.
  void FetchDiskAgain(size_t disk);

  GuestMemory& memory();
  MemoryFaults* memory_faults();  // null: none are served
  // Disks that can be frozen while they go on, in the configuration's order.
  const std::vector<SealedView*>& sealed_views() const;
  // Of memory; not started. Its threads: one at a time, while the machine runs or is paused.
  DirtyTracker& tracker();
  // To the guest's agent; null where the machine has no port for one. Any thread, as LocalLine
  // says.
  LocalLine* agent_line();
  // Whether Wait returns, or is about to. Any thread.
  bool Ended();
  const MachineConfig& config() const { return config_; }

 private:
  class Parts;

  Machine(const MachineConfig& config, MachineOptions options);
  Status BuildParts();
  void BuildFaults();
  void LoseMemory(const std::string& reason);
  Status BuildDevices();
  Status BuildVcpus();
  Status LoadBootKernel();
  void StandStill() REQUIRES(control_mutex_);
  void GoOn() REQUIRES(control_mutex_);
  Status SaveParts(StateNode& node) const;
  void End(MachineEnd::Reason reason, std::string report);

  // Constant after Build.
  const MachineConfig config_;
  const MachineOptions options_;
  std::unique_ptr<Parts> parts_;
  // Control threads.
  mutable Mutex control_mutex_;
  bool started_ GUARDED_BY(control_mutex_) = false;
  bool paused_ GUARDED_BY(control_mutex_) = true;
  // Set by the thread that holds control_mutex_, for itself.
  bool at_instant_ = false;
  // Any thread.
  Mutex end_mutex_;
  std::condition_variable_any ended_;
  std::unique_ptr<MachineEnd> end_ GUARDED_BY(end_mutex_);
};

}  // namespace pacsvisor
