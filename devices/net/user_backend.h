// The user-mode back end: libslirp ends the guest's connections in this process and opens sockets
// of the host's for them. No privileges; IPv4 only.
//
//   10.0.2.0/24: gateway and host 10.0.2.2, name server 10.0.2.3, the guest 10.0.2.15 by DHCP
//
// Bounds, for each card: SlirpWatches::kMaxSockets sockets of the host's, some of them for UDP and
// ICMP only; fragments, which libslirp keeps for 30 seconds, by bytes a second. What exceeds them
// is dropped, as a network may, and logged.
//
// libslirp keeps TCP connections in this process: they do not survive it. A restored machine starts
// with a fresh instance, the same addresses and the same forwards.
#pragma once

#include <libslirp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "devices/net/network_backend.h"
#include "devices/net/packet_stage.h"
#include "devices/net/slirp_watches.h"
#include "vmm/base/log.h"
#include "vmm/base/token_bucket.h"

namespace pacsvisor {

// A port of the host that leads to a port of the guest.
struct HostForward {
  enum class Protocol { kTcp, kUdp };
  Protocol protocol = Protocol::kTcp;
  std::string host_address = "127.0.0.1";  // IPv4, dotted; 0.0.0.0: all of the host's
  uint16_t host_port = 0;
  uint16_t guest_port = 0;
};

struct UserNetwork {
  std::string guest_address = "10.0.2.15";  // of 10.0.2.4 to 10.0.2.254
  std::vector<HostForward> forwards;
  bool isolated = false;  // the guest reaches nothing; what comes by a forward is answered
};

class UserBackend final : public NetworkBackend {
 public:
  // Binds the forwards. Errors: kInvalidArgument (an address or port), kBusy (a port in use),
  // kPermissionDenied (a port below 1024).
  static Result<std::unique_ptr<UserBackend>> Create(const UserNetwork& network);
  ~UserBackend() override;

  const NetCapabilities& capabilities() const override { return capabilities_; }
  std::string Description() const override { return "user-mode network"; }
  ThreadKind thread_kind() const override { return ThreadKind::kNetwork; }
  Status Start(EventLoop& loop, NetReceiver& receiver) override;
  Status SetGuestOffloads(const NetOffloads&) override { return {}; }
  SendResult Send(const VirtioNetHeader& header, std::span<const iovec> frame) override;
  void EndOfBatch() override;
  void ResumeReceive() override;
  bool link_up() const override { return true; }

  static constexpr uint64_t kFragmentBytesPerSecond = 1 << 20;
  static constexpr uint64_t kFragmentBurstBytes = 4 << 20;

 private:
  struct Timer {
    SlirpTimerCb callback = nullptr;
    void* callback_opaque = nullptr;
    int64_t expires_ms = -1;  // on slirp's clock; -1: not set
  };
  struct SlirpDeleter {
    void operator()(Slirp* slirp) const { slirp_cleanup(slirp); }
  };

  UserBackend();
  Status Open(const UserNetwork& network);
  Status AddForward(const HostForward& forward);

  int BeforeWait();
  void AfterWait();
  void RunTimers();
  void Deliver();
  bool StageFrame(std::span<const uint8_t> frame);
  bool MayEnter(std::span<const uint8_t> frame);

  // libslirp's callbacks; `opaque` is the back end.
  static const SlirpCb kCallbacks;
  static ssize_t OnFrame(const void* bytes, size_t size, void* opaque);
  static void OnGuestError(const char* message, void* opaque);
  static void* NewTimer(SlirpTimerCb callback, void* callback_opaque, void* opaque);
  static void FreeTimer(void* timer, void* opaque);
  static void SetTimer(void* timer, int64_t expires_ms, void* opaque);
  static void OnDescriptorOpened(int fd, void* opaque);
  static void OnDescriptorClosed(int fd, void* opaque);

  // Constant after construction; loop_ and receiver_ after Start.
  const NetCapabilities capabilities_;
  EventLoop* loop_ = nullptr;
  NetReceiver* receiver_ = nullptr;
  // The loop's thread. slirp_ comes last: its end calls back.
  PacketStage stage_;
  bool filled_ = false;      // libslirp was asked what it waits for, since the last wait
  bool has_driver_ = false;  // some time it has had one, since this was made
  RateLimitedLog guest_log_;
  RateLimitedLog limit_log_;
  TokenBucket fragments_;
  std::map<void*, std::unique_ptr<Timer>> timers_;
  SlirpWatches watches_;
  std::unique_ptr<Slirp, SlirpDeleter> slirp_;
};

}  // namespace pacsvisor
