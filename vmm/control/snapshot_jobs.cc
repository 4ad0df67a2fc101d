#include "vmm/control/snapshot_jobs.h"

#include <algorithm>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/thread_priority.h"

namespace pacsvisor {
namespace {

constexpr ThreadKind kSnapshotThread = ThreadKind::kSnapshot;

}  // namespace

class SnapshotJobs::Job final : public SnapshotObserver {
 public:
  Job(uint64_t number, Body body) : number_(number), body_(std::move(body)) {
    progress_.number = number;
  }

  uint64_t number() const { return number_; }

  void Progress(SnapshotPhase phase, uint64_t bytes_done, uint64_t bytes_total) override {
    CHECK(phase != SnapshotPhase::kDone && phase != SnapshotPhase::kFailed, "phase {}",
          SnapshotPhaseName(phase));
    MutexLock lock(mutex_);
    progress_.phase = phase;
    progress_.bytes_done = bytes_done;
    progress_.bytes_total = bytes_total;
  }
  bool cancelled() const override { return cancelled_.load(std::memory_order_relaxed); }

  // The first reason stays.
  void Cancel(const std::string& reason) {
    MutexLock lock(mutex_);
    reason_ = reason_.empty() ? reason : reason_;
    cancelled_.store(true, std::memory_order_relaxed);
  }
  Result<SnapshotResult> Take() {
    Result<SnapshotResult> outcome = body_(*this);
    body_ = nullptr;
    return outcome;
  }
  void End(Result<SnapshotResult> outcome) {
    MutexLock lock(mutex_);
    if (outcome.ok()) {
      progress_.phase = SnapshotPhase::kDone;
      progress_.result = *std::move(outcome);
      return;
    }
    progress_.phase = SnapshotPhase::kFailed;
    // The taker knows only that it was to end; why, is known here.
    progress_.error = outcome.error().code() == ErrorCode::kCancelled && !reason_.empty()
                          ? Error::Make(ErrorCode::kCancelled, "{}", reason_)
                          : std::move(outcome).error();
  }
  SnapshotProgress Now() {
    MutexLock lock(mutex_);
    return progress_;
  }

 private:
  const uint64_t number_;
  Body body_;  // the job's thread
  std::atomic<bool> cancelled_ = false;
  Mutex mutex_;
  std::string reason_ GUARDED_BY(mutex_);  // of the cancellation
  SnapshotProgress progress_ GUARDED_BY(mutex_);
};

SnapshotJobs::SnapshotJobs() = default;

SnapshotJobs::~SnapshotJobs() {
  Interrupt("the machine's process ends");
  WaitUntilIdle();
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (worker_.joinable()) {
    worker_.join();
  }
}

Status SnapshotJobs::StartWorker() {
  worker_ = TRY(StartThread(kSnapshotThread, "snapshot", [this] { Work(); }));
  MutexLock lock(mutex_);
  has_worker_ = true;
  return {};
}

void SnapshotJobs::Work() {
  LowerIoPriority();
  while (true) {
    Job* job = nullptr;
    {
      MutexLock lock(mutex_);
      while (waiting_ == nullptr && !stopping_) {
        changed_.wait(mutex_);
      }
      if (waiting_ == nullptr) {
        return;
      }
      job = std::exchange(waiting_, nullptr);
    }
    Run(*job);
  }
}

Result<uint64_t> SnapshotJobs::Start(Body body) {
  MutexLock lock(mutex_);
  if (running_ != nullptr) {
    return Error::Make(ErrorCode::kBusy,
                       "snapshot {} is being taken: wait until it is done, or cancel it",
                       running_->number());
  }
  CHECK(has_worker_, "a snapshot is begun, and no thread is there to take it");
  const uint64_t number = last_number_ + 1;
  auto owned = std::make_unique<Job>(number, std::move(body));
  last_number_ = number;
  running_ = owned.get();
  waiting_ = running_;
  changed_.notify_all();
  jobs_.push_front(std::move(owned));
  // The running one is remembered beside those that are over.
  if (jobs_.size() > kRemembered + 1) {
    jobs_.pop_back();
  }
  return number;
}

void SnapshotJobs::Run(Job& job) {
  Result<SnapshotResult> outcome = job.Take();
  SnapshotProgress end;
  {
    MutexLock lock(mutex_);
    job.End(std::move(outcome));
    end = job.Now();
    running_ = nullptr;
    changed_.notify_all();
  }
  if (end.result) {
    Log(LogLevel::kInfo, "snapshot {} is done: {}", end.number, end.result->id);
  } else {
    Log(LogLevel::kWarning, "snapshot {} failed: {}", end.number, end.error->message());
  }
}

Result<SnapshotProgress> SnapshotJobs::Progress(uint64_t number) {
  MutexLock lock(mutex_);
  for (const std::unique_ptr<Job>& job : jobs_) {
    if (job->number() == number) {
      return job->Now();
    }
  }
  return Error::Make(ErrorCode::kNotFound,
                     "there is no snapshot number {} here: the last {} of a running machine are "
                     "remembered; pacsvisor snapshots lists those in the store",
                     number, kRemembered);
}

Status SnapshotJobs::Cancel(uint64_t number) {
  MutexLock lock(mutex_);
  if (running_ == nullptr || running_->number() != number) {
    return Error::Make(ErrorCode::kNotFound, "snapshot {} is not being taken: nothing to cancel",
                       number);
  }
  running_->Cancel("the snapshot was cancelled: nothing of it is kept");
  return {};
}

void SnapshotJobs::Interrupt(const std::string& reason) {
  MutexLock lock(mutex_);
  if (running_ != nullptr) {
    running_->Cancel(reason);
  }
}

std::optional<uint64_t> SnapshotJobs::running() {
  MutexLock lock(mutex_);
  return running_ == nullptr ? std::nullopt : std::optional(running_->number());
}

void SnapshotJobs::WaitUntilIdle() {
  MutexLock lock(mutex_);
  while (running_ != nullptr) {
    changed_.wait(mutex_);
  }
}

}  // namespace pacsvisor
