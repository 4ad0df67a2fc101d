// A running machine as the control API sees it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/control/snapshot_control.h"

namespace pacsvisor {

enum class MachineState { kRunning, kPaused, kStopping };

std::string_view MachineStateName(MachineState state);  // "running", "paused", "stopping"

struct DiskDescription {
  std::string path;
  std::string serial;
  uint64_t size_bytes = 0;
  // Less while a restored machine runs and the rest is still in the snapshot; 0 while none is
  // there.
  uint64_t there_bytes = 0;
  bool read_only = false;
};

struct NetDescription {
  std::string backend;  // "user", "tap", "none"
  std::string mac;      // 52:54:00:…
  std::string interface;
  std::vector<std::string> forwards;  // as in VM.toml
  bool isolated = false;
};

// Device, then kind, then how often (Machine::GuestFaults); what is 0 is left out.
using FaultDescriptions = std::map<std::string, std::map<std::string, uint64_t>>;

// Snapshots that the machine takes by itself ([schedule] in VM.toml).
struct ScheduleDescription {
  uint64_t every_ms = 0;    // 0: it takes none
  uint64_t next_in_ms = 0;  // until the next one is due; 0 also while it is being taken
  uint64_t failures = 0;    // since the last success
  std::string last_error;   // of them; empty: none

  friend bool operator==(const ScheduleDescription&, const ScheduleDescription&) = default;
};

struct MachineDescription {
  std::string name;
  int64_t pid = 0;
  MachineState state = MachineState::kRunning;
  uint32_t cpus = 0;
  uint64_t memory_bytes = 0;
  uint64_t memory_there_bytes = 0;  // less while a restore is still fetching the rest
  uint64_t uptime_ms = 0;
  // CLOCK_MONOTONIC of the host: of the process's main(); of when the machine of a
  // snapshot began to be built (0: the guest booted); and of the first guest instruction since the
  // guest was last started or reset (0 before that).
  uint64_t process_start_ns = 0;
  uint64_t restore_start_ns = 0;
  uint64_t first_entry_ns = 0;
  std::vector<DiskDescription> disks;
  std::vector<NetDescription> nets;
  std::string store;      // path of the directory that snapshots go to; empty: none
  std::string store_key;  // path of its key file; empty: not encrypted
  ScheduleDescription schedule;
  FaultDescriptions faults;  // since the guest was last started or reset
  std::string version;       // of pacsvisor
};

struct StopRequest {
  static constexpr uint32_t kDefaultGraceSeconds = 30;
  static constexpr uint32_t kMaxGraceSeconds = 24 * 3600;

  uint32_t grace_seconds = kDefaultGraceSeconds;  // from power button to force
  bool force = false;                             // no power button, at once
};

// Threads: any, several at the same time.
class MachineControl {
 public:
  virtual ~MachineControl() = default;

  virtual MachineDescription Describe() = 0;
  // Returns when every vCPU stands still. A paused machine stays paused: no error.
  virtual Status Pause() = 0;
  virtual Status Resume() = 0;
  // Returns at once; the machine ends later, when the guest has powered off or the grace is over.
  // The last request's grace counts, from that request on: one that was made while the guest could
  // not hear the button yet does not cut a later one short. A force is not taken back.
  virtual Status RequestStop(const StopRequest& request) = 0;

  // Begins a snapshot and returns its number; waits its turn behind a pause or resume only. While
  // it is taken, Pause and Resume answer kBusy; a paused machine is captured as it stands and stays
  // paused. kBusy while another is taken or the machine stops, kUnsupported without a store.
  virtual Result<uint64_t> StartSnapshot(const SnapshotRequest& request) = 0;
  // kNotFound: never begun by this process, or forgotten (the last 16 that are over are not).
  virtual Result<SnapshotProgress> SnapshotStatus(uint64_t number) = 0;
  // Returns at once; the snapshot then fails with kCancelled, unless it is committed by then.
  // kNotFound when it is not being taken.
  virtual Status CancelSnapshot(uint64_t number) = 0;
};

}  // namespace pacsvisor
