// virtio-blk (virtio 1.2, section 5.2): one disk, one worker thread, up to 16 queues.
//
// Offered: SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, MQ, and RO, or DISCARD and WRITE_ZEROES. Not
// offered: CONFIG_WCE (the cache is always write-back, the driver flushes). BLK_SIZE is always 512,
// because partition tables count in it and images move between hosts; TOPOLOGY tells what the host
// prefers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "devices/block/block_abi.h"
#include "devices/block/block_queue_server.h"
#include "devices/virtio/doorbell_watch.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/event_loop.h"
#include "vmm/disk/block_backend.h"

namespace pacsvisor {

class VirtioBlock : public VirtioDevice {
 public:
  static constexpr uint16_t kQueueSize = 256;
  static constexpr uint16_t kMaxQueues = 16;

  struct Options {
    std::string name;          // "disk0"
    std::string serial;        // at most 20 printable ASCII characters; the guest sees it
    uint16_t queue_count = 1;  // 1 to 16
    std::shared_ptr<RateLimiter> limiter = nullptr;  // of this disk alone; null: no limit
  };
  static constexpr uint16_t DefaultQueueCount(uint32_t vcpus) {
    return static_cast<uint16_t>(vcpus < 1 ? 1 : vcpus > 4 ? 4 : vcpus);
  }

  // kInvalidArgument when the options are out of range.
  static Result<std::unique_ptr<VirtioBlock>> Create(Options options,
                                                     std::unique_ptr<BlockBackend> backend);
  // Waits for the host's I/O. Guest memory and transport still live.
  ~VirtioBlock() override;

  VirtioDeviceType type() const override { return VirtioDeviceType::kBlock; }
  std::string_view name() const override { return options_.name; }
  uint64_t device_features() const override;
  std::vector<uint16_t> queue_sizes() const override;
  Status Attach(VirtioTransport& transport, GuestMemory& memory) override;

  void ReadConfig(uint64_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint64_t offset, std::span<const uint8_t> data) override;

  void Activate(const VirtioActivation& activation) override;
  void StartReset() override;
  bool ResetComplete() const override;

  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

  // The disk behind it: its dirty blocks are the snapshot's business.
  BlockBackend& backend() { return *backend_; }
  // Any thread, once attached: requests that broke the rules so far.
  uint64_t malformed_requests() const { return server_->malformed_requests(); }

 private:
  VirtioBlock(Options options, std::unique_ptr<BlockBackend> backend, EventFd wake);
  BlockRequestLimits Limits() const;

  // Constant after Attach.
  const Options options_;
  const std::unique_ptr<BlockBackend> backend_;
  const EventFd wake_;
  const VirtioBlockConfig config_;
  VirtioTransport* transport_ = nullptr;
  // Any thread; brings its own lock.
  std::unique_ptr<BlockQueueServer> server_;
  // Resets that the worker has not heard of. A reset is complete without them only, so that a
  // driver that resets without end cannot pile up work (and descriptors) before a slow worker.
  std::atomic<unsigned> resets_pending_ = 0;
  // Owned by the worker.
  std::unique_ptr<DoorbellWatch> doorbells_;
  // Ends first.
  std::unique_ptr<EventLoop> worker_;
};

}  // namespace pacsvisor
