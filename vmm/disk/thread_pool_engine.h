// File I/O by preadv/pwritev on a few threads: for hosts that refuse io_uring.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/disk/io_engine.h"

namespace pacsvisor {

class ThreadPoolEngine : public IoEngine {
 public:
  static constexpr unsigned kDefaultThreads = 4;

  // Its threads start with its first file: an engine may be made before the process is confined.
  static Result<std::unique_ptr<IoEngine>> Create(unsigned thread_count);
  ~ThreadPoolEngine() override;

  std::string_view name() const override { return "threads"; }
  Result<unsigned> AddFile(int fd) override;
  void RemoveFile(unsigned file) override;
  int wait_fd() const override { return done_event_.fd(); }
  [[nodiscard]] bool Queue(IoOperation& operation) override;
  void Submit() override;
  void Reap(std::vector<IoOperation*>& done) override;
  unsigned in_flight() const override { return in_flight_; }

 private:
  struct Work {
    IoOperation* operation;
    int fd;
  };
  explicit ThreadPoolEngine(EventFd done_event) : done_event_(std::move(done_event)) {}
  Status StartThreads();
  void RunThread();
  // Waits for some; none when the engine ends.
  std::optional<Work> NextWork();

  // Constant after construction.
  const EventFd done_event_;
  unsigned thread_count_ = 0;
  // Owned by the caller's thread.
  std::vector<std::thread> threads_;
  std::array<int, kMaxFiles> files_;
  std::vector<Work> prepared_;
  unsigned in_flight_ = 0;
  // Guarded.
  Mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<Work> work_ GUARDED_BY(mutex_);
  std::vector<IoOperation*> done_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace pacsvisor
