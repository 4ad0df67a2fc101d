// virtio-net (virtio 1.2, section 5.1): one queue pair and a control queue over a back end.
//
// - One worker, the device's event loop, on which the back end lives as well. It takes frames from
// the
//   transmit queue and puts frames into the receive queue under the queue lock, and calls the back
//   end without it.
// - A frame that the driver sent is given back when the back end has taken it. Frames in flight
// when
//   the machine is saved are finished by the restored one without being sent again: on a network a
//   lost frame is legal, a doubled one may not be.
// - A link that is down drops what is sent. After a restore the driver sees the link go down and up
// and
//   is asked to announce itself, because the network behind may be another one.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/net/control_commands.h"
#include "devices/net/network_backend.h"
#include "devices/net/receive_ring.h"
#include "devices/net/transmit_ring.h"
#include "devices/virtio/doorbell_watch.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/log.h"
#include "vmm/base/rate_limiter.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

struct NetDeviceOptions {
  std::string name;        // "net0"
  MacAddress mac = {};     // a unicast address
  uint16_t mtu_bytes = 0;  // told the driver, from 68 on; 0: it takes Ethernet's 1,500
  // Of frames' bytes, this card's alone; null: no limit. A frame that is too much waits: what the
  // driver sends in its queue, what it is to receive where the back end keeps frames.
  std::shared_ptr<RateLimiter> send_limiter = nullptr;
  std::shared_ptr<RateLimiter> receive_limiter = nullptr;
};

// Since the device was built.
struct NetCounters {
  uint64_t received_frames = 0;
  uint64_t received_bytes = 0;
  uint64_t receive_drops = 0;  // not wanted by the driver's filter, too long for it, or link down
  uint64_t sent_frames = 0;
  uint64_t sent_bytes = 0;
  uint64_t send_drops = 0;  // malformed, refused by the host, or link down
};

class NetDevice final : public VirtioDevice, private NetReceiver {
 public:
  static constexpr uint16_t kReceiveQueueSize = 512;
  static constexpr uint16_t kTransmitQueueSize = 256;
  static constexpr uint16_t kControlQueueSize = 64;

  // Errors: kInvalidArgument (options); the host's, for the worker.
  static Result<std::unique_ptr<NetDevice>> Create(NetDeviceOptions options,
                                                   std::unique_ptr<NetworkBackend> backend);
  // Ends the worker. The device must have been reset, or the machine stand still.
  ~NetDevice() override;

  VirtioDeviceType type() const override { return VirtioDeviceType::kNet; }
  std::string_view name() const override { return options_.name; }
  uint64_t device_features() const override { return features_offered_; }
  std::vector<uint16_t> queue_sizes() const override {
    return {kReceiveQueueSize, kTransmitQueueSize, kControlQueueSize};
  }
  Status Attach(VirtioTransport& transport, GuestMemory& memory) override;

  void ReadConfig(uint64_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint64_t offset, std::span<const uint8_t> data) override;
  uint8_t config_generation() const override {
    return config_generation_.load(std::memory_order_acquire);
  }

  void Activate(const VirtioActivation& activation) override;
  void StartReset() override;
  bool ResetComplete() const override;
  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

  // Pulls the cable, or plugs it in. Not part of the saved state: it is the machine's owner who
  // decides it anew. Any thread, after Attach.
  void SetLink(bool up);
  // Asks the driver to make itself known on the network (5.1.6.5.4), where it can. Any thread,
  // after Attach.
  void Announce();
  bool link_up() const;  // as the driver sees it
  NetCounters counters() const;

 private:
  // Of a restore: what the driver sees of the link until it has noticed.
  enum class Flap { kNone, kDown, kSeenDown };
  // How long the driver sees a link that is down after it has looked at it: long enough that a
  // driver which looks twice (4.1.4.3.1 allows it to) sees the same.
  static constexpr long kFlapNs = 50'000'000;
  struct SavedHeads {
    std::vector<uint16_t> receive;
    std::vector<uint16_t> transmit;
  };

  NetDevice(NetDeviceOptions options, std::unique_ptr<NetworkBackend> backend,
            std::unique_ptr<EventLoop> loop, UniqueFd flap_timer);

  // Worker.
  void TakeOver(DoorbellWatch::Doorbells doorbells, uint64_t features, uint64_t generation);
  void AcknowledgeReset();
  void OnDoorbell(uint16_t queue);
  void RunAll();
  void HandleTransmit();
  bool TransmitBatch();  // true: there may be more to send
  void SendBatch(bool link_up);
  void HandleControl();
  uint8_t ExecuteControl(const DescriptorChain& chain) REQUIRES(mutex_);
  void FinishRestore();
  bool HeadsFit(uint16_t index, const std::vector<uint16_t>& heads) const REQUIRES(mutex_);
  bool ReturnHeads(const SavedHeads& heads) REQUIRES(mutex_);
  void StartFlap() REQUIRES(mutex_);
  void ArmFlapTimer(long nanoseconds);
  void OnFlapTimer();

  // NetReceiver, on the worker.
  size_t Receive(std::span<NetPacket> packets) override;
  void TransmitReady() override { HandleTransmit(); }
  void BackendLinkChanged() override;
  ReceiveRing::Outcome ReceiveOne(NetPacket& packet) REQUIRES(mutex_);
  bool MayReceive() REQUIRES(mutex_);
  Status WatchLimiters();
  bool FitForDriver(NetPacket& packet) const REQUIRES(mutex_);

  bool CanRun() const REQUIRES(mutex_) { return running_ && !paused_ && !failed_; }
  bool LinkUp() const REQUIRES(mutex_) { return link_plugged_ && backend_->link_up(); }
  uint16_t StatusField() const REQUIRES(mutex_);
  void LinkChanged() REQUIRES(mutex_);
  Virtqueue* Queue(uint16_t index) const REQUIRES(mutex_) { return queues_[index]; }
  // The transport is called under the lock, so that nothing of it is touched once Pause or
  // StartReset has returned.
  void Fail(std::string_view reason) REQUIRES(mutex_);
  void Fail(GuestFault rule, std::string_view reason) REQUIRES(mutex_);
  void InterruptIfWanted(uint16_t queue) REQUIRES(mutex_);
  void ForgetDriver() REQUIRES(mutex_);

  // Constant after construction; transport_ and memory_ after Attach.
  const NetDeviceOptions options_;
  const uint64_t features_offered_;
  VirtioTransport* transport_ = nullptr;
  GuestMemory* memory_ = nullptr;
  const std::unique_ptr<EventLoop> loop_;
  const UniqueFd flap_timer_;
  const std::unique_ptr<NetworkBackend> backend_;  // ends before the loop does
  // The worker.
  DoorbellWatch doorbells_;
  TransmitRing transmit_;  // changed with mutex_ held, too
  RateLimitedLog frame_log_;
  RateLimitedLog control_log_;
  // Any thread.
  std::atomic<uint8_t> config_generation_ = 0;
  std::atomic<uint64_t> received_frames_ = 0;
  std::atomic<uint64_t> received_bytes_ = 0;
  std::atomic<uint64_t> receive_drops_ = 0;
  std::atomic<uint64_t> sent_frames_ = 0;
  std::atomic<uint64_t> sent_bytes_ = 0;
  std::atomic<uint64_t> send_drops_ = 0;
  // Guarded: the queue lock.
  mutable Mutex mutex_;
  bool running_ GUARDED_BY(mutex_) = false;  // active, and the worker has taken over
  bool paused_ GUARDED_BY(mutex_) = false;
  bool failed_ GUARDED_BY(mutex_) = false;      // asked for a reset
  uint64_t generation_ GUARDED_BY(mutex_) = 0;  // of activations and resets
  unsigned resets_pending_ GUARDED_BY(mutex_) = 0;
  uint64_t features_ GUARDED_BY(mutex_) = 0;
  std::vector<Virtqueue*> queues_ GUARDED_BY(mutex_);
  ReceiveRing receive_ GUARDED_BY(mutex_);
  NetControlState control_ GUARDED_BY(mutex_);
  bool link_plugged_ GUARDED_BY(mutex_) = true;
  Flap flap_ GUARDED_BY(mutex_) = Flap::kNone;
  // Frames to the guest wait at the back end: a guest whose link is down, or was just now, takes
  // them and cannot answer.
  bool receive_held_ GUARDED_BY(mutex_) = false;
  std::optional<SavedHeads> restored_ GUARDED_BY(mutex_);  // from Load to the first Resume
};

}  // namespace pacsvisor
