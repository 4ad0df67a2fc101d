// Life of the device: built, activated, reset, paused; configuration space; link. Its worker is in
// net_worker.cc, its state in net_state.cc.
#include "devices/net/net_device.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace pacsvisor {
namespace {

constexpr uint16_t kMinMtuBytes = 68;  // 5.1.4.1
constexpr size_t kQueueCount = 3;

// A feature is offered only where the back end can carry it.
uint64_t OfferedFeatures(const NetCapabilities& can, const NetDeviceOptions& options) {
  const auto when = [](bool condition, uint64_t feature) { return condition ? feature : 0; };
  uint64_t features = kNetFeatureMac | kNetFeatureStatus | kNetFeatureMergeBuffers |
                      kNetFeatureControlQueue | kNetFeatureControlRx | kNetFeatureControlRxExtra |
                      kNetFeatureControlMac | kNetFeatureGuestAnnounce;
  features |= when(options.mtu_bytes != 0, kNetFeatureMtu);
  if (can.from_guest.checksum) {
    features |= kNetFeatureChecksum | when(can.from_guest.tcp4_segments, kNetFeatureHostTso4) |
                when(can.from_guest.tcp6_segments, kNetFeatureHostTso6) |
                when(can.from_guest.ecn_segments, kNetFeatureHostEcn);
  }
  if (can.to_guest.checksum) {
    features |= kNetFeatureGuestChecksum | when(can.to_guest.tcp4_segments, kNetFeatureGuestTso4) |
                when(can.to_guest.tcp6_segments, kNetFeatureGuestTso6) |
                when(can.to_guest.ecn_segments, kNetFeatureGuestEcn);
  }
  return features;
}

}  // namespace

Result<std::unique_ptr<NetDevice>> NetDevice::Create(NetDeviceOptions options,
                                                     std::unique_ptr<NetworkBackend> backend) {
  if ((options.mac[0] & 1) != 0 || options.mac == MacAddress{}) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "{}: the MAC address must be a single card's: its first byte even, not all "
                       "zero",
                       options.name);
  }
  if (options.mtu_bytes != 0 && options.mtu_bytes < kMinMtuBytes) {
    return Error::Make(ErrorCode::kInvalidArgument, "{}: an MTU of {}; at least {} are needed",
                       options.name, options.mtu_bytes, kMinMtuBytes);
  }
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) {
    return Error::FromErrno(errno, "{}: cannot create a timer", options.name);
  }
  std::unique_ptr<EventLoop> loop = TRY(EventLoop::Create(options.name, backend->thread_kind()));
  return std::unique_ptr<NetDevice>(
      new NetDevice(std::move(options), std::move(backend), std::move(loop), std::move(timer)));
}

NetDevice::NetDevice(NetDeviceOptions options, std::unique_ptr<NetworkBackend> backend,
                     std::unique_ptr<EventLoop> loop, UniqueFd flap_timer)
    : options_(std::move(options)),
      features_offered_(OfferedFeatures(backend->capabilities(), options_)),
      loop_(std::move(loop)),
      flap_timer_(std::move(flap_timer)),
      backend_(std::move(backend)),
      doorbells_(*loop_),
      queues_(kQueueCount, nullptr) {
  control_.mac = options_.mac;
}

NetDevice::~NetDevice() { loop_->Stop(); }

Status NetDevice::Attach(VirtioTransport& transport, GuestMemory& memory) {
  transport_ = &transport;
  memory_ = &memory;
  TRY(backend_->Start(*loop_, *this));
  TRY(loop_->Add(flap_timer_.get(), EPOLLIN, [this](uint32_t) { OnFlapTimer(); }));
  TRY(WatchLimiters());
  return loop_->Start();
}

Status NetDevice::WatchLimiters() {
  if (const RateLimiter* limiter = options_.send_limiter.get(); limiter != nullptr) {
    TRY(loop_->Add(limiter->timer_fd(), EPOLLIN, [this, limiter](uint32_t) {
      limiter->ConsumeTimer();
      HandleTransmit();
    }));
  }
  if (const RateLimiter* limiter = options_.receive_limiter.get(); limiter != nullptr) {
    TRY(loop_->Add(limiter->timer_fd(), EPOLLIN, [this, limiter](uint32_t) {
      limiter->ConsumeTimer();
      backend_->ResumeReceive();
    }));
  }
  return {};
}

// 5.1.4.
void NetDevice::ReadConfig(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0});
  VirtioNetConfigSpace space;
  if (offset >= sizeof(space)) {
    return;
  }
  const size_t count = std::min<uint64_t>(data.size(), sizeof(space) - offset);
  const MutexLock lock(mutex_);
  space.mac = control_.mac;
  space.status = StatusField();
  space.mtu = options_.mtu_bytes;
  // An ABI structure without padding, as bytes.
  std::copy_n(reinterpret_cast<const uint8_t*>(&space) + offset, count, data.begin());

  const bool read_status = offset < offsetof(VirtioNetConfigSpace, max_queue_pairs) &&
                           offset + count > offsetof(VirtioNetConfigSpace, status);
  if (read_status && flap_ == Flap::kDown) {
    flap_ = Flap::kSeenDown;
    loop_->Post([this] { ArmFlapTimer(kFlapNs); });
  }
}

// 5.1.4: a modern driver changes nothing here; its MAC address it sets by the control queue.
void NetDevice::WriteConfig(uint64_t, std::span<const uint8_t>) {
  transport_->guest_faults().Count(GuestFault::kReadOnlyRegister);
}

uint16_t NetDevice::StatusField() const {
  const bool up = LinkUp() && flap_ == Flap::kNone;
  return static_cast<uint16_t>((up ? kNetStatusLinkUp : 0) |
                               (control_.announce ? kNetStatusAnnounce : 0));
}

void NetDevice::Activate(const VirtioActivation& activation) {
  const MutexLock lock(mutex_);
  running_ = false;
  failed_ = false;
  ++generation_;
  features_ = activation.features;
  for (const VirtioQueueHandle& handle : activation.queues) {
    CHECK(handle.index < queues_.size(), "queue {}", handle.index);
    queues_[handle.index] = handle.queue;
  }
  if (Virtqueue* queue = Queue(kNetReceiveQueue); queue != nullptr) {
    receive_.Bind(*memory_, *queue, (features_ & kNetFeatureMergeBuffers) != 0);
  }
  Result<DoorbellWatch::Doorbells> doorbells = DoorbellWatch::Duplicate(activation.queues);
  if (!doorbells.ok()) {
    Fail(doorbells.error().message());
    return;
  }
  loop_->Post([this, bells = *doorbells, features = features_, generation = generation_] {
    TakeOver(bells, features, generation);
  });
}

void NetDevice::ForgetDriver() {
  running_ = false;
  failed_ = false;
  ++generation_;
  features_ = 0;
  std::ranges::fill(queues_, nullptr);
  receive_.Unbind();
  control_ = NetControlState{.mac = options_.mac};
  flap_ = Flap::kNone;
  receive_held_ = false;
  restored_.reset();
}

void NetDevice::StartReset() {
  const MutexLock lock(mutex_);
  ForgetDriver();
  ++resets_pending_;
  loop_->Post([this] { AcknowledgeReset(); });
}

bool NetDevice::ResetComplete() const {
  const MutexLock lock(mutex_);
  return resets_pending_ == 0;
}

void NetDevice::Pause() {
  const MutexLock lock(mutex_);
  paused_ = true;
}

void NetDevice::Resume() {
  {
    const MutexLock lock(mutex_);
    paused_ = false;
  }
  loop_->Post([this] { RunAll(); });
}

void NetDevice::LinkChanged() {
  config_generation_.fetch_add(1, std::memory_order_release);
  if (running_ && (features_ & kNetFeatureStatus) != 0) {
    transport_->InterruptConfigChange();
  }
}

void NetDevice::SetLink(bool up) {
  const MutexLock lock(mutex_);
  if (std::exchange(link_plugged_, up) != up) {
    LinkChanged();
  }
}

void NetDevice::BackendLinkChanged() {
  const MutexLock lock(mutex_);
  LinkChanged();
}

void NetDevice::Announce() {
  const MutexLock lock(mutex_);
  if ((features_ & kNetFeatureGuestAnnounce) != 0) {
    control_.announce = true;
    LinkChanged();
  }
}

bool NetDevice::link_up() const {
  const MutexLock lock(mutex_);
  return LinkUp() && flap_ == Flap::kNone;
}

NetCounters NetDevice::counters() const {
  constexpr auto kOrder = std::memory_order_relaxed;
  return {.received_frames = received_frames_.load(kOrder),
          .received_bytes = received_bytes_.load(kOrder),
          .receive_drops = receive_drops_.load(kOrder),
          .sent_frames = sent_frames_.load(kOrder),
          .sent_bytes = sent_bytes_.load(kOrder),
          .send_drops = send_drops_.load(kOrder)};
}

void NetDevice::Fail(std::string_view reason) {
  failed_ = true;
  transport_->NeedsReset(reason);
}

void NetDevice::Fail(GuestFault rule, std::string_view reason) {
  failed_ = true;
  transport_->BrokeRule(rule, reason);
}

void NetDevice::InterruptIfWanted(uint16_t queue) {
  if (Queue(queue)->ShouldInterrupt()) {
    transport_->InterruptQueue(queue);
  }
}

}  // namespace pacsvisor
