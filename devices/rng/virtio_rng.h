// The entropy device (virtio 1.2, 5.4): random bytes of the host's kernel. A guest gets as many
// bytes a second as the rate allows and no more than kRequestLimitBytes a request; it asks again.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "devices/virtio/doorbell_watch.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/log.h"
#include "vmm/base/thread_annotations.h"

namespace pacsvisor {

// Threads: VirtioDevice's as its contract says; the rest is the worker's.
class VirtioRng : public VirtioDevice {
 public:
  static constexpr uint16_t kQueueSize = 64;
  static constexpr size_t kRequestLimitBytes = 4096;
  // What a request costs at least, so that empty ones are limited too.
  static constexpr uint64_t kRequestCostBytes = 64;

  struct Options {
    std::string name = "rng0";
    uint64_t bytes_per_second = 1024 * 1024;
    uint64_t burst_bytes = 256 * 1024;              // at least kRequestLimitBytes
    std::function<uint64_t()> clock = MonotonicNs;  // for the rate; the worker's
  };
  static Result<std::unique_ptr<VirtioRng>> Create(Options options);
  ~VirtioRng() override;

  VirtioDeviceType type() const override { return VirtioDeviceType::kEntropy; }
  std::string_view name() const override { return options_.name; }
  uint64_t device_features() const override { return 0; }
  std::vector<uint16_t> queue_sizes() const override { return {kQueueSize}; }
  Status Attach(VirtioTransport& transport, GuestMemory& memory) override;
  // It has no configuration space.
  void ReadConfig(uint64_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override {
    transport_->guest_faults().Count(GuestFault::kReadOnlyRegister);
  }
  void Activate(const VirtioActivation& activation) override;
  void StartReset() override;
  bool ResetComplete() const override;
  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

  // Requests answered with no byte, because the driver gave no room for one.
  uint64_t malformed_requests() const { return malformed_log_.count(); }

 private:
  enum class Served { kOne, kNone, kStopped };

  explicit VirtioRng(Options options) : options_(std::move(options)) {}
  // Worker.
  void Serve();
  Served ServeOne() EXCLUDES(mutex_);
  bool FillPool();
  void RefillTokens();
  int WaitMs();

  // Constant after Attach.
  const Options options_;
  VirtioTransport* transport_ = nullptr;
  GuestMemory* memory_ = nullptr;
  // The worker's.
  std::array<uint8_t, kRequestLimitBytes> pool_{};  // random bytes made ahead, without the lock
  size_t pool_bytes_ = 0;
  uint64_t tokens_ = 0;  // bytes that may be given now
  uint64_t tokens_at_ns_ = 0;
  bool waits_for_tokens_ = false;
  DescriptorChain chain_;
  // Guarded: the queue lock.
  mutable Mutex mutex_;
  Virtqueue* queue_ GUARDED_BY(mutex_) = nullptr;  // null: not active
  bool paused_ GUARDED_BY(mutex_) = false;
  // Any thread: resets that the worker has not heard of. Rings and memory are touched under the
  // lock only, but a driver that resets without end must not pile up work before a slow worker.
  std::atomic<unsigned> resets_pending_ = 0;
  RateLimitedLog malformed_log_;
  RateLimitedLog log_;
  // Last, so that the worker ends before what it uses.
  std::unique_ptr<DoorbellWatch> doorbells_;
  std::unique_ptr<EventLoop> loop_;
};

}  // namespace pacsvisor
