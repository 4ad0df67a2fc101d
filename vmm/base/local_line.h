// A connection within the process: bytes both ways, each way with room for kRoomBytes. The near end
// is a thread's, which may wait; the far end an event loop's, which may not, and is woken instead.
//
// It exists as long as whoever holds it, and is open only while the near end says so: one
// conversation at a time, of which nothing is left to the next.
// Threads: near end: any, one conversation at a time. Far end: its loop's; OnNews its owner's.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/thread_annotations.h"

namespace pacsvisor {

class LocalLine {
 public:
  static constexpr size_t kRoomBytes = 64 * 1024;

  // Near end.
  void Open() EXCLUDES(mutex_);
  void Close() EXCLUDES(mutex_);
  // All of it, or nothing where it does not fit.
  [[nodiscard]] bool Write(std::string_view bytes) EXCLUDES(mutex_);
  // What has come, at least a byte; nothing by `deadline_ns` (CLOCK_MONOTONIC): empty, or as soon
  // as `give_up`, which is asked often, says so.
  std::string Read(uint64_t deadline_ns, const std::function<bool()>& give_up) EXCLUDES(mutex_);
  // Whether somebody listens behind the far end.
  bool listened() EXCLUDES(mutex_);

  // Far end. `wake` is called on any thread when there is something to do, with a lock held: it may
  // post work to a loop, and nothing else. None: the far end goes away.
  void OnNews(std::function<void()> wake) EXCLUDES(mutex_);
  bool open() EXCLUDES(mutex_);
  size_t Take(std::span<uint8_t> to) EXCLUDES(mutex_);
  size_t Give(std::span<const uint8_t> from) EXCLUDES(mutex_);  // 0: no room; woken when there is
  void SetListened(bool listened) EXCLUDES(mutex_);

 private:
  void Wake() REQUIRES(mutex_);

  Mutex mutex_;
  std::condition_variable_any came_;
  std::function<void()> wake_ GUARDED_BY(mutex_);
  bool open_ GUARDED_BY(mutex_) = false;
  bool listened_ GUARDED_BY(mutex_) = false;
  bool far_waits_ GUARDED_BY(mutex_) = false;  // for room
  std::string to_far_ GUARDED_BY(mutex_);
  std::string to_near_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
