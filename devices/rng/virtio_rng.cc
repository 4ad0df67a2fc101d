#include "devices/rng/virtio_rng.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace pacsvisor {
namespace {

constexpr uint32_t kVirtioRngStateVersion = 1;
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kMillisecondNs = 1'000'000;

}  // namespace

Result<std::unique_ptr<VirtioRng>> VirtioRng::Create(Options options) {
  CHECK(options.bytes_per_second > 0 && options.burst_bytes >= kRequestLimitBytes);
  std::unique_ptr<VirtioRng> rng(new VirtioRng(std::move(options)));
  rng->loop_ = TRY(EventLoop::Create(rng->options_.name));
  rng->doorbells_ = std::make_unique<DoorbellWatch>(*rng->loop_);
  rng->tokens_ = rng->options_.burst_bytes;
  rng->tokens_at_ns_ = rng->options_.clock();
  VirtioRng* raw = rng.get();
  rng->loop_->SetIdleHooks([raw] { return raw->WaitMs(); },
                           [raw] {
                             if (raw->waits_for_tokens_) {
                               raw->Serve();
                             }
                           });
  TRY(rng->loop_->Start());
  return rng;
}

VirtioRng::~VirtioRng() {
  if (loop_ != nullptr) {
    loop_->Stop();
  }
}

Status VirtioRng::Attach(VirtioTransport& transport, GuestMemory& memory) {
  transport_ = &transport;
  memory_ = &memory;
  return {};
}

void VirtioRng::ReadConfig(uint64_t /*offset*/, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0});
}

void VirtioRng::Activate(const VirtioActivation& activation) {
  auto duplicates = DoorbellWatch::Duplicate(activation.queues);
  if (!duplicates.ok()) {
    transport_->NeedsReset(duplicates.error().message());
    return;
  }
  {
    const MutexLock lock(mutex_);
    queue_ = activation.queues.empty() ? nullptr : activation.queues.front().queue;
  }
  loop_->Post([this, doorbells = *std::move(duplicates)] {
    const Status watched = doorbells_->Watch(doorbells, [this](uint16_t) { Serve(); });
    if (!watched.ok()) {
      transport_->NeedsReset(watched.error().message());
    }
    Serve();
  });
}

void VirtioRng::StartReset() {
  {
    const MutexLock lock(mutex_);
    queue_ = nullptr;
  }
  resets_pending_.fetch_add(1);
  loop_->Post([this] {
    doorbells_->Unwatch();
    resets_pending_.fetch_sub(1);
  });
}

bool VirtioRng::ResetComplete() const { return resets_pending_.load() == 0; }

void VirtioRng::Pause() {
  const MutexLock lock(mutex_);
  paused_ = true;
}

void VirtioRng::Resume() {
  {
    const MutexLock lock(mutex_);
    paused_ = false;
  }
  loop_->Post([this] { Serve(); });
}

int VirtioRng::WaitMs() {
  if (!waits_for_tokens_) {
    return -1;
  }
  const uint64_t missing = kRequestLimitBytes - std::min<uint64_t>(tokens_, kRequestLimitBytes);
  const uint64_t wait_ns = missing * kSecondNs / options_.bytes_per_second;
  return static_cast<int>(std::clamp<uint64_t>(wait_ns / kMillisecondNs + 1, 1, 1000));
}

void VirtioRng::RefillTokens() {
  const uint64_t now_ns = options_.clock();
  const uint64_t elapsed_ns = std::min(now_ns - tokens_at_ns_, 10 * kSecondNs);
  // In steps of whole bytes; what is left of the time counts next.
  const uint64_t earned = static_cast<uint64_t>(static_cast<unsigned __int128>(elapsed_ns) *
                                                options_.bytes_per_second / kSecondNs);
  if (earned > 0) {
    tokens_ = std::min(tokens_ + earned, options_.burst_bytes);
    tokens_at_ns_ = now_ns;
  }
}

bool VirtioRng::FillPool() {
  while (pool_bytes_ < pool_.size()) {
    const ssize_t made =
        ::getrandom(pool_.data() + pool_bytes_, pool_.size() - pool_bytes_, GRND_NONBLOCK);
    if (made < 0 && errno == EINTR) {
      continue;
    }
    if (made <= 0) {
      // A host whose generator is not seeded yet: a little later.
      log_.Log(LogLevel::kWarning, "{}: the host has no random bytes yet", options_.name);
      return false;
    }
    pool_bytes_ += static_cast<size_t>(made);
  }
  return true;
}

void VirtioRng::Serve() {
  waits_for_tokens_ = false;
  while (true) {
    RefillTokens();
    // A request's size is known when it is popped: there must be enough for the largest.
    if (tokens_ < kRequestLimitBytes || !FillPool()) {
      waits_for_tokens_ = true;
      return;
    }
    if (ServeOne() != Served::kOne) {
      return;
    }
  }
}

VirtioRng::Served VirtioRng::ServeOne() {
  const MutexLock lock(mutex_);
  if (queue_ == nullptr || paused_) {
    return Served::kStopped;
  }
  queue_->DisableNotifications();
  Virtqueue::PopResult popped = queue_->Pop(chain_);
  while (popped == Virtqueue::PopResult::kEmpty) {
    if (!queue_->EnableNotifications()) {
      return Served::kNone;
    }
    popped = queue_->Pop(chain_);
  }
  if (popped == Virtqueue::PopResult::kBroken) {
    transport_->BrokeRule(queue_->broken_rule(), queue_->broken_reason());
    queue_ = nullptr;
    return Served::kStopped;
  }
  size_t written = 0;
  for (const GuestRange& range : chain_.writable) {
    const size_t count = std::min<uint64_t>(range.size_bytes, pool_bytes_ - written);
    const bool landed = memory_->Write(range.start, std::span(pool_).subspan(written, count));
    CHECK(landed, "popped ranges lie inside memory");
    written += count;
  }
  if (!chain_.readable.empty()) {
    transport_->guest_faults().Count(GuestFault::kBufferDirection);  // 5.4.6.1
  }
  if (written == 0) {
    transport_->guest_faults().Count(GuestFault::kBufferTooShort);
    malformed_log_.Log(LogLevel::kWarning, "{}: a request without room for a byte", options_.name);
  }
  // No byte is given twice: what is left moves to the front.
  std::copy(pool_.begin() + static_cast<ptrdiff_t>(written), pool_.end(), pool_.begin());
  pool_bytes_ -= written;
  tokens_ -= std::min(tokens_, std::max<uint64_t>(written, kRequestCostBytes));
  queue_->Push(chain_.head, static_cast<uint32_t>(written));
  if (queue_->ShouldInterrupt()) {
    transport_->InterruptQueue(0);
  }
  return Served::kOne;
}

void VirtioRng::Save(StateNode& node) const {
  // A request is answered within one hold of the lock: none is ever in flight. Bytes made ahead are
  // not saved, since two machines would get the same.
  node.SetVersion(kVirtioRngStateVersion);
}

Status VirtioRng::Load(const StateNode& node) {
  TRY(node.Version(kVirtioRngStateVersion));
  return {};
}

}  // namespace pacsvisor
