// An interrupt line that counts.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "devices/bus/interrupt_line.h"

namespace pacsvisor {

// Threads: any.
class CountingLine : public InterruptLine {
 public:
  void Trigger() override {
    const std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  uint64_t count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  // Waits until the count is more than `seen`; false when 20 seconds passed.
  [[nodiscard]] bool WaitFor(uint64_t seen) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return count_ > seen; });
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  uint64_t count_ = 0;
};

}  // namespace pacsvisor
