// A back end that a test holds both ends of.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include "devices/net/network_backend.h"
#include "devices/net/packet_stage.h"
#include "tests/support/fake_virtio_transport.h"
#include "tests/unit/devices/net/packets.h"

namespace pacsvisor::net_test {

class FakeNetwork final : public NetworkBackend {
 public:
  struct Sent {
    VirtioNetHeader header;
    Bytes frame;
  };

  explicit FakeNetwork(NetCapabilities capabilities = {}) : capabilities_(capabilities) {}

  // NetworkBackend: the loop's thread.
  const NetCapabilities& capabilities() const override { return capabilities_; }
  std::string Description() const override { return "the test's network"; }
  Status Start(EventLoop& loop, NetReceiver& receiver) override {
    loop_ = &loop;
    receiver_ = &receiver;
    return {};
  }
  Status SetGuestOffloads(const NetOffloads& offloads) override {
    const std::lock_guard lock(mutex_);
    offloads_ = offloads;
    return {};
  }
  SendResult Send(const VirtioNetHeader& header, std::span<const iovec> frame) override {
    const std::lock_guard lock(mutex_);
    if (send_budget_ == 0) {
      blocked_ = true;
      changed_.notify_all();
      return SendResult::kWouldBlock;
    }
    --send_budget_;
    Sent sent{header, {}};
    for (const iovec& part : frame) {
      const auto* bytes = static_cast<const uint8_t*>(part.iov_base);
      sent.frame.insert(sent.frame.end(), bytes, bytes + part.iov_len);
    }
    sent_.push_back(std::move(sent));
    changed_.notify_all();
    return SendResult::kSent;
  }
  void ResumeReceive() override { Deliver(); }
  bool link_up() const override { return link_up_; }

  // The test's thread.
  void Inject(const Bytes& frame, const VirtioNetHeader& header = {}) {
    loop_->Post([this, frame, header] {
      incoming_.push_back({header, frame});
      Deliver();
    });
  }
  // Everything posted before has run.
  void Settle() {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    loop_->Post([&] {
      const std::lock_guard lock(mutex);
      done = true;
      changed.notify_all();
    });
    std::unique_lock lock(mutex);
    CHECK(changed.wait_for(lock, kTestDeadline, [&] { return done; }));
  }
  void SetLink(bool up) {
    link_up_ = up;
    loop_->Post([this] { receiver_->BackendLinkChanged(); });
  }
  // So many frames more are taken; a device that waits is told.
  void AllowSends(size_t count) {
    const std::lock_guard lock(mutex_);
    send_budget_ = count;
    if (std::exchange(blocked_, false)) {
      loop_->Post([this] { receiver_->TransmitReady(); });
    }
  }
  [[nodiscard]] bool WaitBlocked() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kTestDeadline, [&] { return blocked_; });
  }
  // The next frame sent; none within the deadline.
  std::optional<Sent> NextSent() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kTestDeadline, [&] { return !sent_.empty(); })) {
      return std::nullopt;
    }
    Sent sent = std::move(sent_.front());
    sent_.pop_front();
    return sent;
  }
  size_t sent_count() const {
    const std::lock_guard lock(mutex_);
    return sent_.size();
  }
  NetOffloads offloads() const {
    const std::lock_guard lock(mutex_);
    return offloads_;
  }

 private:
  void Deliver() {
    while (!incoming_.empty()) {
      NetPacket packet{incoming_.front().header, incoming_.front().frame};
      if (receiver_->Receive({&packet, 1}) == 0) {
        return;
      }
      incoming_.pop_front();
    }
  }

  const NetCapabilities capabilities_;
  EventLoop* loop_ = nullptr;
  NetReceiver* receiver_ = nullptr;
  std::deque<Sent> incoming_;  // the loop's thread
  std::atomic<bool> link_up_ = true;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  size_t send_budget_ = SIZE_MAX;
  bool blocked_ = false;
  NetOffloads offloads_;
  std::deque<Sent> sent_;
};

}  // namespace pacsvisor::net_test
