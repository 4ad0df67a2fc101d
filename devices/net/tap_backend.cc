#include "devices/net/tap_backend.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace pacsvisor {
namespace {

// Frames read before the others on this loop have their turn.
constexpr int kReadBatch = 64;

// What a deleted interface answers to everything (drivers/net/tun.c).
bool MeansGone(int error_number) { return error_number == EBADFD || error_number == ENODEV; }

}  // namespace

Result<std::unique_ptr<TapBackend>> TapBackend::Create(const std::string& interface) {
  return std::make_unique<TapBackend>(
      std::make_shared<const TapInterface>(TRY(TapInterface::Open(interface))));
}

TapBackend::TapBackend(std::shared_ptr<const TapInterface> tap)
    : tap_(std::move(tap)),
      // The kernel completes any frame it is given with a header, whatever it hands over itself.
      capabilities_{.from_guest = {.checksum = true,
                                   .tcp4_segments = true,
                                   .tcp6_segments = true,
                                   .ecn_segments = true},
                    .to_guest = tap_->offloads(),
                    .gathers = true} {}

std::string TapBackend::Description() const {
  return fmt::format("TAP interface {}", tap_->name());
}

Status TapBackend::Start(EventLoop& loop, NetReceiver& receiver) {
  loop_ = &loop;
  receiver_ = &receiver;
  if (const Status ready = SetUpInterface(); !ready.ok()) {
    Log(LogLevel::kError,
        "{} is gone ({}): the machine starts with the guest's link down; make the interface again "
        "and reset the guest, or restart the machine",
        Description(), ready.error().message());
    link_up_ = false;
    return {};
  }
  watched_events_ = EPOLLIN;
  return loop.Add(tap_->fd(), watched_events_, [this](uint32_t events) { OnEvents(events); });
}

// The last machine's driver may have wanted other offloads, and the interface may have gone since.
Status TapBackend::SetUpInterface() const {
  Status set = tap_->SetOffloads({});
  if (!set.ok() && MeansGone(set.error().error_number())) {
    TRY(tap_->Reattach());
    set = tap_->SetOffloads({});
  }
  return set;
}

Status TapBackend::SetGuestOffloads(const NetOffloads& offloads) {
  return link_up() ? tap_->SetOffloads(offloads) : Status();
}

void TapBackend::OnEvents(uint32_t events) {
  if ((events & EPOLLERR) != 0) {
    LoseInterface(EBADFD);
    return;
  }
  if ((events & EPOLLOUT) != 0 && std::exchange(send_blocked_, false)) {
    Watch();
    receiver_->TransmitReady();
  }
  if ((events & EPOLLIN) != 0 && !receive_paused_) {
    ReadFrames();
  }
}

// One batch: what is left makes the level-triggered descriptor ready again, after the others' turn.
void TapBackend::ReadFrames() {
  for (int i = 0; i < kReadBatch; ++i) {
    const std::span<uint8_t> room = stage_.Reserve(kNetMaxFrameBytes);
    if (room.empty()) {
      break;
    }
    VirtioNetHeader header;
    std::array<iovec, 2> parts = {{{&header, sizeof(header)}, {room.data(), room.size()}}};
    const ssize_t size = ::readv(tap_->fd(), parts.data(), parts.size());
    if (size < 0) {
      if (MeansGone(errno)) {
        LoseInterface(errno);
        return;
      }
      break;  // EAGAIN: no more; EINTR and the like: at the next event
    }
    if (static_cast<size_t>(size) >= sizeof(header) + kNetMinFrameBytes) {
      stage_.Commit(static_cast<size_t>(size) - sizeof(header), header);
    }
  }
  if (!Deliver()) {
    receive_paused_ = true;
    Watch();
  }
}

bool TapBackend::Deliver() {
  if (!stage_.empty()) {
    stage_.Take(receiver_->Receive(stage_.packets()));
  }
  return stage_.empty();
}

void TapBackend::ResumeReceive() {
  if (!receive_paused_ || !Deliver()) {
    return;
  }
  receive_paused_ = false;
  Watch();
}

void TapBackend::Watch() {
  const uint32_t events = (receive_paused_ ? 0u : EPOLLIN) | (send_blocked_ ? EPOLLOUT : 0u);
  if (!link_up() || events == watched_events_) {
    return;
  }
  watched_events_ = events;
  const Status modified = loop_->Modify(tap_->fd(), events);
  CHECK(modified.ok(), "{}", modified.error().message());  // it is in the loop
}

NetworkBackend::SendResult TapBackend::Send(const VirtioNetHeader& header,
                                            std::span<const iovec> frame) {
  if (!link_up()) {
    return SendResult::kDropped;
  }
  VirtioNetHeader copy = header;
  send_vector_.clear();
  send_vector_.push_back({&copy, sizeof(copy)});
  send_vector_.insert(send_vector_.end(), frame.begin(), frame.end());
  const ssize_t size =
      ::writev(tap_->fd(), send_vector_.data(), static_cast<int>(send_vector_.size()));
  if (size >= 0) {
    return SendResult::kSent;  // whole: a TAP takes a frame or refuses it
  }
  const int error_number = errno;
  if (error_number == EAGAIN) {
    send_blocked_ = true;
    Watch();
    return SendResult::kWouldBlock;
  }
  if (MeansGone(error_number)) {
    LoseInterface(error_number);
  } else {
    send_log_.Log(LogLevel::kWarning, "{}: frame dropped: {}{}", Description(),
                  std::strerror(error_number),
                  error_number == EIO ? " (is the interface up?)" : "");
  }
  return SendResult::kDropped;
}

void TapBackend::LoseInterface(int error_number) {
  if (!link_up_.exchange(false, std::memory_order_relaxed)) {
    return;
  }
  Log(LogLevel::kError,
      "{} is gone ({}): the guest's link is down and the machine goes on; make the interface "
      "again and reset the guest, or restart the machine",
      Description(), std::strerror(error_number));
  loop_->Remove(tap_->fd());
  stage_.Take(stage_.packets().size());
  if (std::exchange(send_blocked_, false)) {
    // Posted: this may be a call of Send.
    loop_->Post([receiver = receiver_] { receiver->TransmitReady(); });
  }
  receiver_->BackendLinkChanged();
}

}  // namespace pacsvisor
