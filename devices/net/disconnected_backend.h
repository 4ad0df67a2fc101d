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
  const NetCapabilities capabilities_{};
};

}  // namespace pacsvisor
