// A thread that waits on descriptors (epoll) and calls back. One loop a worker: a disk, a network
// device's queue pair, the console.
// Threads: Add, Modify, Remove and the callbacks belong to the loop's own thread once it runs
// (before Start: to the owner); Post, Start and Stop may be called from any other thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/base/thread_kind.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class EventLoop {
 public:
  using Callback = std::function<void(uint32_t epoll_events)>;

  // `name` names the thread (15 characters are shown by the kernel).
  static Result<std::unique_ptr<EventLoop>> Create(std::string name,
                                                   ThreadKind kind = ThreadKind::kDevice);
  ~EventLoop();  // stops and joins

  // `events` as in epoll_ctl(2), level triggered. The descriptor is borrowed: it must stay open
  // until Remove or the loop's end.
  Status Add(int fd, uint32_t events, Callback callback);
  Status Modify(int fd, uint32_t events);
  void Remove(int fd);
  // Runs `work` on the loop's thread, in the order posted.
  void Post(std::function<void()> work);
  // Called before each wait: the time in milliseconds to wait at most, -1 for ever (default), and
  // after each wait, whatever ended it (slirp's timers need both).
  void SetIdleHooks(std::function<int()> before_wait, std::function<void()> after_wait);

  Status Start();
  void Stop();  // returns when the thread has ended; posted work not yet run is dropped
  bool OnLoopThread() const { return std::this_thread::get_id() == loop_thread_.load(); }

 private:
  EventLoop(std::string name, ThreadKind kind, UniqueFd epoll, EventFd wake);
  void Run();
  void RunPosted();
  bool Stopping();

  // Constant after construction.
  const std::string name_;
  const ThreadKind kind_;
  const UniqueFd epoll_;
  const EventFd wake_;
  // Owned by the loop's thread once it runs. shared_ptr: a callback may remove itself.
  std::map<int, std::shared_ptr<Callback>> callbacks_;
  std::function<int()> before_wait_;
  std::function<void()> after_wait_;
  // Guarded.
  Mutex mutex_;
  std::vector<std::function<void()>> posted_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  // Set by the loop itself: its first callback may ask before Start has stored the thread.
  std::atomic<std::thread::id> loop_thread_;
  std::thread thread_;
};

}  // namespace pacsvisor
