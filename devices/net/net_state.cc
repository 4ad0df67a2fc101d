// A network device's saved state, and what a restored one does first.
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "devices/net/net_device.h"
#include "vmm/base/byte_order.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kNetStateVersion = 1;
// How long frames wait for a driver to look at a link that is down, and, once that is up again, for
// the guest's network to follow.
constexpr long kLookNs = 999'999'999;
constexpr long kSettleNs = 50'000'000;

void SaveHeads(StateNode& node, std::string_view name, std::span<const uint16_t> heads) {
  std::vector<uint8_t> bytes(heads.size() * sizeof(uint16_t));
  for (size_t i = 0; i < heads.size(); ++i) {
    StoreLe(&bytes[i * sizeof(uint16_t)], heads[i]);
  }
  node.SetBytes(name, bytes);
}

Result<std::vector<uint16_t>> LoadHeads(const StateNode& node, std::string_view name,
                                        uint16_t queue_size) {
  const std::span<const uint8_t> bytes = TRY(node.BytesOf(name));
  if (bytes.size() % sizeof(uint16_t) != 0 || bytes.size() / sizeof(uint16_t) > queue_size) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: {} of {} bytes for a queue of {}", name,
                       bytes.size(), queue_size);
  }
  std::vector<uint16_t> heads(bytes.size() / sizeof(uint16_t));
  for (size_t i = 0; i < heads.size(); ++i) {
    heads[i] = LoadLe<uint16_t>(&bytes[i * sizeof(uint16_t)]);
  }
  std::vector<uint16_t> sorted = heads;
  std::ranges::sort(sorted);
  if (std::ranges::adjacent_find(sorted) != sorted.end()) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: {} holds a head twice", name);
  }
  return heads;
}

}  // namespace

void NetDevice::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  CHECK(paused_, "{} is saved while it runs", options_.name);
  node.SetVersion(kNetStateVersion);
  node.SetBytes("mac", control_.mac);
  node.SetBool("announce", control_.announce);
  control_.filter.Save(node.AddChild("filter"));
  // A machine that was restored and not resumed since is saved as it was restored. HeadsInFlight:
  // the worker changes its ring only with the lock held.
  const bool as_restored = restored_.has_value();
  SaveHeads(node, "receive_heads", as_restored ? restored_->receive : receive_.HeldHeads());
  SaveHeads(node, "transmit_heads", as_restored ? restored_->transmit : transmit_.HeadsInFlight());
}

Status NetDevice::Load(const StateNode& node) {
  TRY(node.Version(kNetStateVersion));
  NetControlState control;
  const std::span<const uint8_t> mac = TRY(node.BytesOf("mac", sizeof(MacAddress)));
  std::copy(mac.begin(), mac.end(), control.mac.begin());
  control.announce = TRY(node.Bool("announce"));
  const StateNode* filter = TRY(node.Child("filter"));
  TRY(control.filter.Load(*filter));
  SavedHeads heads;
  heads.receive = TRY(LoadHeads(node, "receive_heads", kReceiveQueueSize));
  heads.transmit = TRY(LoadHeads(node, "transmit_heads", kTransmitQueueSize));

  const MutexLock lock(mutex_);
  CHECK(!running_, "{} is loaded while it runs", options_.name);
  control_ = std::move(control);
  restored_ = std::move(heads);
  paused_ = true;
  return {};
}

void NetDevice::FinishRestore() {
  const MutexLock lock(mutex_);
  if (!CanRun() || !restored_.has_value()) {
    return;
  }
  const SavedHeads heads = *std::exchange(restored_, std::nullopt);
  if (!ReturnHeads(heads)) {
    Fail(GuestFault::kSavedBroken, "the saved state does not fit the queues");
    return;
  }
  if (Queue(kNetTransmitQueue) != nullptr) {
    InterruptIfWanted(kNetTransmitQueue);
  }
  StartFlap();
}

// The heads come from outside: as many as the ring has in flight, each one a head of its queue.
bool NetDevice::HeadsFit(uint16_t index, const std::vector<uint16_t>& heads) const {
  const Virtqueue* queue = Queue(index);
  if (queue == nullptr) {
    return heads.empty();
  }
  const uint16_t size = queue->size();
  return heads.size() == queue->in_flight() &&
         std::ranges::all_of(heads, [size](uint16_t head) { return head < size; });
}

bool NetDevice::ReturnHeads(const SavedHeads& heads) {
  if (!HeadsFit(kNetReceiveQueue, heads.receive) || !HeadsFit(kNetTransmitQueue, heads.transmit) ||
      !HeadsFit(kNetControlQueue, {})) {
    return false;
  }
  for (const uint16_t head : heads.transmit) {
    Queue(kNetTransmitQueue)->Push(head, 0);
  }
  return heads.receive.empty() || receive_.HoldAgain(heads.receive);
}

void NetDevice::StartFlap() {
  if ((features_ & kNetFeatureStatus) != 0 && LinkUp()) {
    flap_ = Flap::kDown;
    receive_held_ = true;
    ArmFlapTimer(kLookNs);
    LinkChanged();
  }
}

void NetDevice::ArmFlapTimer(long nanoseconds) {
  const itimerspec once = {.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = nanoseconds}};
  const int armed = ::timerfd_settime(flap_timer_.get(), 0, &once, nullptr);
  CHECK(armed == 0, "timerfd_settime: errno {}", errno);
}

// Up again, where the driver has seen it down; then, or where it has not looked, frames wait no
// longer.
void NetDevice::OnFlapTimer() {
  uint64_t expirations = 0;
  if (::read(flap_timer_.get(), &expirations, sizeof(expirations)) < 0) {
    return;
  }
  {
    const MutexLock lock(mutex_);
    if (flap_ == Flap::kSeenDown) {
      flap_ = Flap::kNone;
      control_.announce |= (features_ & kNetFeatureGuestAnnounce) != 0;
      LinkChanged();
      ArmFlapTimer(kSettleNs);
      return;
    }
    receive_held_ = false;
  }
  backend_->ResumeReceive();
}

}  // namespace pacsvisor
