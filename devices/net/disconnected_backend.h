// A card without a cable: the link is down, nothing comes, what is sent is dropped.
#pragma once

#include <string>

#include "devices/net/network_backend.h"

namespace pacsvisor {

class DisconnectedBackend final : public NetworkBackend {
 public:
  const NetCapabilities& capabilities() const override { return capabilities_; }
  std::string Description() const override { return "no network"; }
  Status Start(EventLoop&, NetReceiver&) override { return {}; }
  Status SetGuestOffloads(const NetOffloads&) override { return {}; }
  SendResult Send(const VirtioNetHeader&, std::span<const iovec>) override {
    return SendResult::kDropped;
  }
  void ResumeReceive() override {}
  bool link_up() const override { return false; }

 private:
  // All there is: what is dropped needs nothing done to it, and a guest that was restored here
  // keeps what it had agreed on with the network of before.
  static constexpr NetOffloads kAll{
      .checksum = true, .tcp4_segments = true, .tcp6_segments = true, .ecn_segments = true};
  const NetCapabilities capabilities_{.from_guest = kAll, .to_guest = kAll};
};

}  // namespace pacsvisor
