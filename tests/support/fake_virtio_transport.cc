#include "tests/support/fake_virtio_transport.h"

namespace pacsvisor {

void FakeVirtioTransport::InterruptQueue(uint16_t queue) {
  const std::lock_guard lock(mutex_);
  ++queue_interrupts_[queue];
  changed_.notify_all();
}

void FakeVirtioTransport::InterruptConfigChange() {
  const std::lock_guard lock(mutex_);
  ++config_interrupts_;
  changed_.notify_all();
}

void FakeVirtioTransport::NeedsReset(std::string_view reason) {
  const std::lock_guard lock(mutex_);
  reset_reasons_.emplace_back(reason);
  changed_.notify_all();
}

uint64_t FakeVirtioTransport::queue_interrupts(uint16_t queue) const {
  const std::lock_guard lock(mutex_);
  const auto found = queue_interrupts_.find(queue);
  return found == queue_interrupts_.end() ? 0 : found->second;
}

uint64_t FakeVirtioTransport::config_interrupts() const {
  const std::lock_guard lock(mutex_);
  return config_interrupts_;
}

std::vector<std::string> FakeVirtioTransport::reset_reasons() const {
  const std::lock_guard lock(mutex_);
  return reset_reasons_;
}

bool FakeVirtioTransport::WaitForQueueInterrupt(uint16_t queue, uint64_t seen,
                                                std::chrono::milliseconds limit) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [&] {
    const auto found = queue_interrupts_.find(queue);
    return found != queue_interrupts_.end() && found->second > seen;
  });
}

bool FakeVirtioTransport::WaitForConfigInterrupt(uint64_t seen,
                                                 std::chrono::milliseconds limit) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [&] { return config_interrupts_ > seen; });
}

bool FakeVirtioTransport::WaitForNeedsReset(std::chrono::milliseconds limit) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [&] { return !reset_reasons_.empty(); });
}

}  // namespace pacsvisor
