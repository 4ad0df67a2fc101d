// A VirtioTransport that counts what a device asks of it and lets a test wait for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/virtio_device.h"

namespace pacsvisor {

// How long a test waits for what must happen; reached only by a failure.
inline constexpr std::chrono::seconds kTestDeadline{20};

// Threads: any.
class FakeVirtioTransport : public VirtioTransport {
 public:
  void InterruptQueue(uint16_t queue) override;
  void InterruptConfigChange() override;
  void NeedsReset(std::string_view reason) override;
  GuestFaultCounters& guest_faults() override { return faults_; }

  uint64_t queue_interrupts(uint16_t queue) const;
  uint64_t config_interrupts() const;
  std::vector<std::string> reset_reasons() const;

  // Waits until the count is more than `seen`; false when the deadline passed.
  [[nodiscard]] bool WaitForQueueInterrupt(uint16_t queue, uint64_t seen,
                                           std::chrono::milliseconds limit = kTestDeadline) const;
  [[nodiscard]] bool WaitForConfigInterrupt(uint64_t seen,
                                            std::chrono::milliseconds limit = kTestDeadline) const;
  [[nodiscard]] bool WaitForNeedsReset(std::chrono::milliseconds limit = kTestDeadline) const;

 private:
  GuestFaultCounters faults_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  // Guarded by mutex_.
  std::map<uint16_t, uint64_t> queue_interrupts_;
  uint64_t config_interrupts_ = 0;
  std::vector<std::string> reset_reasons_;
};

}  // namespace pacsvisor
