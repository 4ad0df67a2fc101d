// Takes the snapshots of a schedule, on a thread of its own: begins each when it is due, waits for
// its end, tries again after a failure. The guest is never held up by it: it asks for a snapshot as
// a user does.
//
// Threads: Start and Stop the owner; Describe any.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <optional>
#include <thread>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/control/machine_control.h"
#include "vmm/control/snapshot_schedule.h"

namespace pacsvisor {

struct ScheduleOptions {
  uint64_t every_ns = 0;
  bool quiesce = false;
  std::optional<uint64_t> newest_age_ns;  // of the schedule's snapshots, at the start
};

class ScheduledSnapshots {
 public:
  // `machine` is used from Start to Stop.
  ScheduledSnapshots(MachineControl& machine, ScheduleOptions options);
  ~ScheduledSnapshots();

  Status Start() EXCLUDES(mutex_);
  // Does not wait for a snapshot that is being taken.
  void Stop() EXCLUDES(mutex_);
  ScheduleDescription Describe() EXCLUDES(mutex_);

 private:
  void Loop() EXCLUDES(mutex_);
  void TakeOne() EXCLUDES(mutex_);
  // Nothing: stopped meanwhile.
  std::optional<SnapshotProgress> AwaitEnd(uint64_t number) EXCLUDES(mutex_);
  // False: stopped.
  bool WaitUntil(uint64_t deadline_ns) EXCLUDES(mutex_);
  void Failed(const Error& error) EXCLUDES(mutex_);

  MachineControl& machine_;
  const ScheduleOptions options_;
  std::thread thread_;  // the owner's
  Mutex mutex_;
  std::condition_variable_any changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  SnapshotSchedule schedule_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
