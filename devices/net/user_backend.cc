#include "devices/net/user_backend.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "devices/net/socket_opener.h"
#include "devices/net/transmit_header.h"
#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr const char* kNetwork = "10.0.2.0";
constexpr const char* kNetmask = "255.255.255.0";
constexpr const char* kGateway = "10.0.2.2";
constexpr const char* kNameServer = "10.0.2.3";
constexpr uint32_t kFirstGuestHost = 4;   // of the last octet
constexpr uint32_t kLastGuestHost = 254;  // .255 is the broadcast address
constexpr uint16_t kFirstUnprivilegedPort = 1024;
constexpr uint64_t kNsPerMs = 1'000'000;
// Of SlirpWatches::kMaxSockets, for name lookups when TCP has taken all it may.
constexpr size_t kSocketsForDatagrams = 64;

Result<in_addr> ParseAddress(const std::string& text, const char* what) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is not the {}: an IPv4 address such as 127.0.0.1 is needed", text,
                       what);
  }
  return address;
}

in_addr Constant(const char* text) {
  in_addr address{};
  CHECK(::inet_pton(AF_INET, text, &address) == 1);
  return address;
}

Result<in_addr> ParseGuestAddress(const std::string& text) {
  const in_addr address = TRY(ParseAddress(text, "guest's address"));
  const uint32_t host = ntohl(address.s_addr) & ~ntohl(Constant(kNetmask).s_addr);
  const bool inside = (address.s_addr & Constant(kNetmask).s_addr) == Constant(kNetwork).s_addr;
  if (!inside || host < kFirstGuestHost || host > kLastGuestHost) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is no guest address of the user-mode network: choose one of 10.0.2.4 "
                       "to 10.0.2.254",
                       text);
  }
  return address;
}

int64_t ClockNs(void*) { return static_cast<int64_t>(MonotonicNs()); }
int64_t ClockMs() { return static_cast<int64_t>(MonotonicNs() / kNsPerMs); }

}  // namespace

const SlirpCb UserBackend::kCallbacks = {
    .send_packet = OnFrame,
    .guest_error = OnGuestError,
    .clock_get_ns = ClockNs,
    .timer_new = NewTimer,
    .timer_free = FreeTimer,
    .timer_mod = SetTimer,
    .register_poll_fd = OnDescriptorOpened,
    .unregister_poll_fd = OnDescriptorClosed,
    .notify = [](void*) {},  // the loop asks libslirp anew before each wait
    .init_completed = [](Slirp*, void*) {},
    .timer_new_opaque = nullptr,
};

UserBackend::UserBackend()
    // libslirp ends TCP itself: a segment of any size is one more piece of the stream, so that one
    // frame of 64 KiB replaces 45 of 1.5 KiB.
    : capabilities_{.from_guest = {.checksum = true, .tcp4_segments = true, .ecn_segments = true},
                    .to_guest = {.checksum = true},
                    .gathers = false},
      fragments_(kFragmentBytesPerSecond, kFragmentBurstBytes, MonotonicNs()) {}

UserBackend::~UserBackend() = default;

Result<std::unique_ptr<UserBackend>> UserBackend::Create(const UserNetwork& network) {
  std::unique_ptr<UserBackend> backend(new UserBackend());
  TRY(backend->Open(network));
  return backend;
}

Status UserBackend::Open(const UserNetwork& network) {
  SlirpConfig config{};
  config.version = 4;
  config.restricted = network.isolated ? 1 : 0;
  config.in_enabled = true;
  config.vnetwork = Constant(kNetwork);
  config.vnetmask = Constant(kNetmask);
  config.vhost = Constant(kGateway);
  config.vnameserver = Constant(kNameServer);
  config.vdhcp_start = TRY(ParseGuestAddress(network.guest_address));
  config.disable_host_loopback = network.isolated;
  config.disable_dns = network.isolated;
  slirp_.reset(slirp_new(&config, &kCallbacks, this));
  if (slirp_ == nullptr) {
    return Error::Make(ErrorCode::kUnsupported,
                       "libslirp {} refuses the user-mode network's configuration",
                       slirp_version_string());
  }
  for (const HostForward& forward : network.forwards) {
    TRY(AddForward(forward));
  }
  return {};
}

Status UserBackend::AddForward(const HostForward& forward) {
  const bool udp = forward.protocol == HostForward::Protocol::kUdp;
  const in_addr host = TRY(ParseAddress(forward.host_address, "host address of a forward"));
  if (forward.host_port == 0 || forward.guest_port == 0) {
    return Error::Make(ErrorCode::kInvalidArgument, "a forward needs ports from 1 to 65535");
  }
  errno = 0;
  // Guest address 0: the one that DHCP hands out first.
  if (slirp_add_hostfwd(slirp_.get(), udp ? 1 : 0, host, forward.host_port, in_addr{},
                        forward.guest_port) == 0) {
    return {};
  }
  const int error_number = errno;
  Error error = Error::FromErrno(error_number, "cannot forward {} port {} of {} to the guest",
                                 udp ? "UDP" : "TCP", forward.host_port, forward.host_address);
  if (error_number == EADDRINUSE) {
    return Error::Make(ErrorCode::kBusy,
                       "{}: another program uses it (ss -lnp 'sport = {}' names it); stop that "
                       "one or forward another port",
                       error.message(), forward.host_port);
  }
  if (error_number == EADDRNOTAVAIL) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "{}: no interface of this host has that address", error.message());
  }
  if (error_number == EACCES && forward.host_port < kFirstUnprivilegedPort) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "{}: ports below {} are the administrator's; forward another port",
                       error.message(), kFirstUnprivilegedPort);
  }
  return error;
}

Status UserBackend::Start(EventLoop& loop, NetReceiver& receiver) {
  loop_ = &loop;
  receiver_ = &receiver;
  loop.SetIdleHooks([this] { return BeforeWait(); }, [this] { AfterWait(); });
  return {};
}

int UserBackend::BeforeWait() {
  filled_ = has_driver_ && stage_.empty();
  if (!filled_) {
    // The guest has no room, or no driver yet: what comes waits in the host's sockets, and
    // libslirp's timers with it. (What is lost on its way to the guest, libslirp sends again after
    // 6 seconds.)
    watches_.Clear(*loop_);
    return -1;
  }
  uint32_t timeout_ms = UINT32_MAX;
  watches_.Fill(*loop_, *slirp_, timeout_ms);
  const int64_t now_ms = ClockMs();
  for (const auto& [key, timer] : timers_) {
    if (timer->expires_ms >= 0) {
      timeout_ms = std::min(timeout_ms, static_cast<uint32_t>(std::clamp<int64_t>(
                                            timer->expires_ms - now_ms, 0, INT_MAX)));
    }
  }
  return timeout_ms > INT_MAX ? -1 : static_cast<int>(timeout_ms);
}

void UserBackend::AfterWait() {
  if (!filled_ || !stage_.empty()) {
    return;
  }
  watches_.Report(*slirp_);
  RunTimers();
  Deliver();
}

void UserBackend::RunTimers() {
  const int64_t now_ms = ClockMs();
  std::vector<void*> due;
  for (const auto& [key, timer] : timers_) {
    if (timer->expires_ms >= 0 && timer->expires_ms <= now_ms) {
      due.push_back(key);
    }
  }
  for (void* key : due) {
    // Looked up again: an earlier callback may have freed it.
    if (const auto found = timers_.find(key); found != timers_.end()) {
      found->second->expires_ms = -1;
      found->second->callback(found->second->callback_opaque);
    }
  }
}

NetworkBackend::SendResult UserBackend::Send(const VirtioNetHeader& header,
                                             std::span<const iovec> frame) {
  CHECK(frame.size() == 1, "this back end takes a frame in one piece");
  const std::span<uint8_t> bytes(static_cast<uint8_t*>(frame[0].iov_base), frame[0].iov_len);
  if (header.gso_type == kNetGsoNone) {
    CompleteChecksum(header, bytes);
  } else if (CompleteLargeTcp4(bytes) != TransmitVerdict::kOk) {
    return SendResult::kDropped;
  }
  if (!MayEnter(bytes)) {
    return SendResult::kDropped;
  }
  slirp_input(slirp_.get(), bytes.data(), static_cast<int>(bytes.size()));
  return SendResult::kSent;
}

// libslirp itself has no bounds but the process's.
bool UserBackend::MayEnter(std::span<const uint8_t> frame) {
  const SocketNeed need = SocketNeedOf(frame);
  if (need == SocketNeed::kNone) {
    return true;
  }
  if (need == SocketNeed::kFragment) {
    if (fragments_.WaitNs(MonotonicNs()) != 0) {
      limit_log_.Log(LogLevel::kWarning,
                     "user-mode network: the guest sends more fragments than "
                     "can be kept: some are dropped");
      return false;
    }
    fragments_.Take(frame.size());
  }
  const size_t most =
      SlirpWatches::kMaxSockets - (need == SocketNeed::kStream ? kSocketsForDatagrams : 0);
  if (watches_.socket_count() >= most) {
    limit_log_.Log(LogLevel::kWarning,
                   "user-mode network: {} connections are open: the guest opens no more until some "
                   "of them end",
                   watches_.socket_count());
    return false;
  }
  return true;
}

void UserBackend::EndOfBatch() { Deliver(); }

void UserBackend::ResumeReceive() {
  has_driver_ = true;
  Deliver();
}

void UserBackend::Deliver() {
  if (!stage_.empty()) {
    stage_.Take(receiver_->Receive(stage_.packets()));
  }
}

bool UserBackend::StageFrame(std::span<const uint8_t> frame) {
  const std::span<uint8_t> room = stage_.Reserve(frame.size());
  if (room.empty()) {
    return false;
  }
  std::copy(frame.begin(), frame.end(), room.begin());
  // libslirp computes every checksum.
  stage_.Commit(frame.size(), VirtioNetHeader{.flags = kNetHeaderDataValid});
  return true;
}

ssize_t UserBackend::OnFrame(const void* bytes, size_t size, void* opaque) {
  auto& self = *static_cast<UserBackend*>(opaque);
  const std::span<const uint8_t> frame(static_cast<const uint8_t*>(bytes), size);
  if (frame.size() < kNetMinFrameBytes || self.receiver_ == nullptr) {
    return static_cast<ssize_t>(size);
  }
  if (!self.StageFrame(frame)) {
    self.Deliver();
    // Still no room: dropped, as libslirp's contract allows; TCP sends it again.
    (void)self.StageFrame(frame);
  }
  return static_cast<ssize_t>(size);
}

void UserBackend::OnGuestError(const char* message, void* opaque) {
  static_cast<UserBackend*>(opaque)->guest_log_.Log(
      LogLevel::kWarning, "user-mode network: the guest misbehaves: {}", message);
}

void* UserBackend::NewTimer(SlirpTimerCb callback, void* callback_opaque, void* opaque) {
  auto& self = *static_cast<UserBackend*>(opaque);
  auto timer = std::make_unique<Timer>(Timer{callback, callback_opaque, -1});
  void* key = timer.get();
  self.timers_[key] = std::move(timer);
  return key;
}

void UserBackend::FreeTimer(void* timer, void* opaque) {
  static_cast<UserBackend*>(opaque)->timers_.erase(timer);
}

void UserBackend::SetTimer(void* timer, int64_t expires_ms, void*) {
  static_cast<Timer*>(timer)->expires_ms = expires_ms;
}

void UserBackend::OnDescriptorOpened(int fd, void* opaque) {
  static_cast<UserBackend*>(opaque)->watches_.Note(fd);
}

void UserBackend::OnDescriptorClosed(int fd, void* opaque) {
  auto& self = *static_cast<UserBackend*>(opaque);
  self.watches_.Forget(self.loop_, fd);
}

}  // namespace pacsvisor
