// The snapshots of a machine's process: one at a time, on a thread of their own, the last ones
// remembered with what came of them.
//
// That thread is started by whoever may do all that it does (main): a filter on system calls is
// handed down to every thread that a confined one starts.
//
// Threads: StartWorker the owner, once; the rest any, several at the same time. No call waits for a
// snapshot but the destructor and WaitUntilIdle. Nothing of other classes is called with its lock
// held.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/control/snapshot_control.h"

namespace pacsvisor {

class SnapshotJobs {
 public:
  static constexpr size_t kRemembered = 16;

  // Takes the snapshot; gone, with all it holds, before its end is told.
  using Body = std::function<Result<SnapshotResult>(SnapshotObserver&)>;

  SnapshotJobs();
  ~SnapshotJobs();  // cancels what runs, and waits for it

  // Before the first Start.
  Status StartWorker();
  // Begins one and returns its number: 1, 2, …. kBusy while another runs.
  Result<uint64_t> Start(Body body) EXCLUDES(mutex_);
  // kNotFound: never begun, or forgotten.
  Result<SnapshotProgress> Progress(uint64_t number) EXCLUDES(mutex_);
  // The user's wish. kNotFound when this one does not run; returns at once.
  Status Cancel(uint64_t number) EXCLUDES(mutex_);
  // The one that runs, if any, fails soon with `reason`, unless it is committed by then.
  void Interrupt(const std::string& reason) EXCLUDES(mutex_);

  std::optional<uint64_t> running() EXCLUDES(mutex_);
  void WaitUntilIdle() EXCLUDES(mutex_);

 private:
  class Job;

  void Work() EXCLUDES(mutex_);
  void Run(Job& job) EXCLUDES(mutex_);

  std::thread worker_;  // the owner's
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::list<std::unique_ptr<Job>> jobs_ GUARDED_BY(mutex_);  // newest first
  Job* running_ GUARDED_BY(mutex_) = nullptr;                // one of them
  uint64_t last_number_ GUARDED_BY(mutex_) = 0;
  Job* waiting_ GUARDED_BY(mutex_) = nullptr;  // running_, and not taken up yet
  bool has_worker_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace pacsvisor
