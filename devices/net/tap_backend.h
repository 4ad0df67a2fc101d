// The TAP back end: the guest's frames enter the host's network stack at an interface.
//
// An interface that disappears while the machine runs (somebody deleted it) takes the link down;
// the machine goes on, and attaches to an interface made anew under that name when the guest resets
// itself or is started again.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "devices/net/network_backend.h"
#include "devices/net/packet_stage.h"
#include "devices/net/tap_interface.h"
#include "vmm/base/log.h"

namespace pacsvisor {

class TapBackend final : public NetworkBackend {
 public:
  // Errors: TapInterface::Open.
  static Result<std::unique_ptr<TapBackend>> Create(const std::string& interface);
  // One back end at a time uses an interface, which may outlive it and serve the next.
  explicit TapBackend(std::shared_ptr<const TapInterface> tap);

  const NetCapabilities& capabilities() const override { return capabilities_; }
  std::string Description() const override;
  Status Start(EventLoop& loop, NetReceiver& receiver) override;
  Status SetGuestOffloads(const NetOffloads& offloads) override;
  SendResult Send(const VirtioNetHeader& header, std::span<const iovec> frame) override;
  void ResumeReceive() override;
  bool link_up() const override { return link_up_.load(std::memory_order_relaxed); }

 private:
  Status SetUpInterface() const;
  void OnEvents(uint32_t events);
  void ReadFrames();
  // The frames staged go to the guest; false when it has no room for all.
  bool Deliver();
  void Watch();
  void LoseInterface(int error_number);

  // Constant after construction; loop_ and receiver_ after Start.
  const std::shared_ptr<const TapInterface> tap_;
  const NetCapabilities capabilities_;
  EventLoop* loop_ = nullptr;
  NetReceiver* receiver_ = nullptr;
  // The loop's thread.
  PacketStage stage_;
  std::vector<iovec> send_vector_;
  uint32_t watched_events_ = 0;
  bool receive_paused_ = false;
  bool send_blocked_ = false;
  RateLimitedLog send_log_;
  // Written by the loop's thread.
  std::atomic<bool> link_up_ = true;
};

}  // namespace pacsvisor
