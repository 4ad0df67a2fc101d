// The last resort of a machine that is ended by force. What the host owes it (a read of a disk
// whose file system hangs) may never come, and whoever waits for that never ends: a while after the
// force the process ends as it stands. Requests in flight are then where any killed process leaves
// them; what the guest has flushed is safe.
//
// The same at once for a machine whose memory is lost: its threads wait for pages for good.
//
// Threads: Arm and EndNow by any; the rest belongs to the owner.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"

namespace pacsvisor {

class ForcedEnd {
 public:
  static constexpr std::chrono::seconds kPatience{5};

  // `last` runs, on a thread of this, before the process ends with ExitStatus::kFailed: what shall
  // not stay behind. It must not wait for anything.
  static Result<std::unique_ptr<ForcedEnd>> Start(std::chrono::nanoseconds patience,
                                                  std::function<void()> last);
  ~ForcedEnd();  // the machine ended in time

  // The force is in: from now on `patience` counts. Once; later calls change nothing.
  void Arm() EXCLUDES(mutex_);
  // Returns at once; the process soon ends with `last_words` on standard error.
  void EndNow(std::string last_words) EXCLUDES(mutex_);

 private:
  ForcedEnd(std::chrono::nanoseconds patience, std::function<void()> last)
      : patience_(patience), last_(std::move(last)) {}
  void Watch() EXCLUDES(mutex_);
  // Until the process is to end; what to say then. None: the machine has ended in order.
  std::optional<std::string> WaitForForce() EXCLUDES(mutex_);

  // Constant after construction.
  const std::chrono::nanoseconds patience_;
  const std::function<void()> last_;
  std::thread thread_;
  // Guarded.
  Mutex mutex_;
  std::condition_variable_any changed_;
  bool armed_ GUARDED_BY(mutex_) = false;
  std::optional<std::string> last_words_ GUARDED_BY(mutex_);
  bool ended_ GUARDED_BY(mutex_) = false;
};

}  // namespace pacsvisor
