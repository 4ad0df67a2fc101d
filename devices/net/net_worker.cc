// What the worker of a network device does: its queues and its back end.
#include <array>
#include <string_view>
#include <utility>

#include "devices/net/net_device.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
// Batches sent before the others on the loop have their turn.
constexpr unsigned kTransmitTurns = 4;

NetOffloads GuestOffloads(uint64_t features) {
  const bool checksum = (features & kNetFeatureGuestChecksum) != 0;
  return {.checksum = checksum,
          .tcp4_segments = checksum && (features & kNetFeatureGuestTso4) != 0,
          .tcp6_segments = checksum && (features & kNetFeatureGuestTso6) != 0,
          .ecn_segments = checksum && (features & kNetFeatureGuestEcn) != 0};
}

bool TakesSegments(const NetOffloads& offloads, uint8_t gso_type) {
  if ((gso_type & kNetGsoEcn) != 0 && !offloads.ecn_segments) {
    return false;
  }
  const int kind = gso_type & ~kNetGsoEcn;
  return (kind == kNetGsoTcp4 && offloads.tcp4_segments) ||
         (kind == kNetGsoTcp6 && offloads.tcp6_segments);
}

bool ChecksumInside(const NetPacket& packet) {
  return size_t{packet.header.checksum_start} + packet.header.checksum_offset + 2 <=
         packet.frame.size();
}

}  // namespace

void NetDevice::TakeOver(DoorbellWatch::Doorbells doorbells, uint64_t features,
                         uint64_t generation) {
  const Status watched =
      doorbells_.Watch(std::move(doorbells), [this](uint16_t queue) { OnDoorbell(queue); });
  const Status offloads = backend_->SetGuestOffloads(GuestOffloads(features));
  if (!offloads.ok()) {
    // Frames that the driver does not take are completed or dropped on their way (FitForDriver).
    frame_log_.Log(LogLevel::kWarning, "{}: {}", options_.name, offloads.error().message());
  }
  {
    const MutexLock lock(mutex_);
    if (generation != generation_) {
      return;  // reset again meanwhile
    }
    running_ = true;
    if (!watched.ok()) {
      Fail(watched.error().message());
    }
  }
  RunAll();
}

void NetDevice::AcknowledgeReset() {
  doorbells_.Unwatch();
  const MutexLock lock(mutex_);
  transmit_.Clear();
  --resets_pending_;
}

void NetDevice::OnDoorbell(uint16_t queue) {
  switch (queue) {
    case kNetReceiveQueue:
      backend_->ResumeReceive();
      break;
    case kNetTransmitQueue:
      HandleTransmit();
      break;
    case kNetControlQueue:
      HandleControl();
      break;
    default:
      break;
  }
}

void NetDevice::RunAll() {
  FinishRestore();
  HandleControl();
  HandleTransmit();
  backend_->ResumeReceive();
}

void NetDevice::HandleTransmit() {
  for (unsigned turn = 0; turn < kTransmitTurns; ++turn) {
    if (!TransmitBatch()) {
      return;
    }
  }
  loop_->Post([this] { HandleTransmit(); });  // after the other descriptors' turn
}

bool NetDevice::TransmitBatch() {
  bool link_is_up = false;
  uint64_t generation = 0;
  {
    const MutexLock lock(mutex_);
    Virtqueue* queue = Queue(kNetTransmitQueue);
    if (!CanRun() || queue == nullptr) {
      return false;
    }
    generation = generation_;
    link_is_up = LinkUp();
    auto collected = TransmitRing::Collected::kMore;  // behind what is left of the last batch
    if (transmit_.empty()) {
      collected = transmit_.Collect(*memory_, *queue, features_, backend_->capabilities().gathers,
                                    options_.send_limiter.get());
    }
    if (collected == TransmitRing::Collected::kBroken) {
      Fail(transmit_.broken_rule(), transmit_.broken_reason());
      transmit_.Clear();
    }
    if (transmit_.empty()) {
      return false;
    }
  }
  SendBatch(link_is_up);
  const MutexLock lock(mutex_);
  if (generation != generation_ || paused_) {
    return false;  // reset: forgotten when acknowledged. Paused: finished after Resume
  }
  transmit_.Finish(*Queue(kNetTransmitQueue));
  InterruptIfWanted(kNetTransmitQueue);
  return transmit_.empty();  // else TransmitReady goes on
}

// Without the lock: the back end enters the kernel.
void NetDevice::SendBatch(bool link_is_up) {
  while (!transmit_.unsent().empty()) {
    const TransmitRing::Frame& frame = transmit_.unsent().front();
    auto result = NetworkBackend::SendResult::kDropped;
    if (frame.verdict != TransmitVerdict::kOk) {
      transport_->guest_faults().Count(frame.verdict == TransmitVerdict::kFrameSize
                                           ? GuestFault::kNetFrameSize
                                           : GuestFault::kNetOffload);
      frame_log_.Log(LogLevel::kWarning, "{}: the driver sent a frame with {}", options_.name,
                     TransmitVerdictName(frame.verdict));
    } else if (link_is_up) {
      result = backend_->Send(frame.header, frame.parts());
    }
    if (result == NetworkBackend::SendResult::kWouldBlock) {
      break;
    }
    if (result == NetworkBackend::SendResult::kSent) {
      sent_frames_.fetch_add(1, kRelaxed);
      sent_bytes_.fetch_add(frame.size_bytes(), kRelaxed);
    } else {
      send_drops_.fetch_add(1, kRelaxed);
    }
    transmit_.Advance(1);
  }
  backend_->EndOfBatch();
}

size_t NetDevice::Receive(std::span<NetPacket> packets) {
  const MutexLock lock(mutex_);
  if (paused_ || receive_held_) {
    return 0;  // Resume asks for them, or OnFlapTimer
  }
  if (!CanRun() || !LinkUp() || !receive_.bound()) {
    receive_drops_.fetch_add(packets.size(), kRelaxed);
    return packets.size();
  }
  size_t taken = 0;
  auto outcome = ReceiveRing::Outcome::kDelivered;
  while (taken < packets.size() && MayReceive()) {
    outcome = ReceiveOne(packets[taken]);
    if (outcome == ReceiveRing::Outcome::kBroken || outcome == ReceiveRing::Outcome::kNoRoom) {
      break;
    }
    ++taken;
  }
  InterruptIfWanted(kNetReceiveQueue);
  if (outcome == ReceiveRing::Outcome::kBroken) {
    Fail(receive_.broken_rule(), receive_.broken_reason());
    receive_drops_.fetch_add(packets.size() - taken, kRelaxed);
    taken = packets.size();
  }
  return taken;
}

// No: the limiter's timer has the back end asked for the rest.
bool NetDevice::MayReceive() {
  return options_.receive_limiter == nullptr || options_.receive_limiter->Admit();
}

ReceiveRing::Outcome NetDevice::ReceiveOne(NetPacket& packet) {
  auto outcome = ReceiveRing::Outcome::kDropped;
  if (control_.filter.Wants(packet.frame, control_.mac) && FitForDriver(packet)) {
    outcome = receive_.Deliver(packet);
  }
  if (outcome == ReceiveRing::Outcome::kDelivered) {
    received_frames_.fetch_add(1, kRelaxed);
    received_bytes_.fetch_add(packet.frame.size(), kRelaxed);
    if (options_.receive_limiter != nullptr) {
      options_.receive_limiter->Charge(packet.frame.size(), 1);
    }
  } else if (outcome == ReceiveRing::Outcome::kDropped) {
    receive_drops_.fetch_add(1, kRelaxed);
  }
  return outcome;
}

// 5.1.6.4.1: the header promises only what the driver negotiated. The back end was told so, but may
// still hold frames from before.
bool NetDevice::FitForDriver(NetPacket& packet) const {
  const NetOffloads takes = GuestOffloads(features_);
  VirtioNetHeader& header = packet.header;
  if (header.gso_type != kNetGsoNone && !TakesSegments(takes, header.gso_type)) {
    return false;
  }
  if (takes.checksum) {
    return true;
  }
  if ((header.flags & kNetHeaderNeedsChecksum) != 0) {
    if (!ChecksumInside(packet)) {
      return false;
    }
    CompleteChecksum(header, packet.frame);
  }
  header = VirtioNetHeader{};
  return true;
}

void NetDevice::HandleControl() {
  const MutexLock lock(mutex_);
  Virtqueue* queue = Queue(kNetControlQueue);
  if (!CanRun() || queue == nullptr) {
    return;
  }
  DescriptorChain chain;
  auto result = Virtqueue::PopResult::kChain;
  for (unsigned i = 0; i < queue->size() && !failed_; ++i) {  // at most one queue's worth a turn
    result = queue->Pop(chain);
    if (result == Virtqueue::PopResult::kEmpty) {
      break;
    }
    if (result == Virtqueue::PopResult::kBroken) {
      Fail(queue->broken_rule(), queue->broken_reason());
    } else if (chain.writable_bytes == 0 || chain.readable_bytes < 2) {
      // 5.1.6.5: a command is answered by a byte.
      Fail(GuestFault::kBufferTooShort, "control command without a class or room for the answer");
    } else {
      const uint8_t answer = ExecuteControl(chain);
      const bool written = memory_->Write(chain.writable.front().start, {&answer, 1});
      CHECK(written, "a popped range is not inside memory");
      queue->Push(chain.head, 1);
    }
  }
  InterruptIfWanted(kNetControlQueue);
  if (result == Virtqueue::PopResult::kChain && !failed_) {
    loop_->Post([this] { HandleControl(); });
  }
}

uint8_t NetDevice::ExecuteControl(const DescriptorChain& chain) {
  std::array<uint8_t, kNetControlMaxBytes> command;
  if (chain.readable_bytes > command.size()) {
    transport_->guest_faults().Count(GuestFault::kNetControlRefused);
    return kNetControlError;
  }
  size_t size = 0;
  for (const GuestRange& range : chain.readable) {
    const bool read =
        memory_->Read(range.start, std::span(command).subspan(size, range.size_bytes));
    CHECK(read, "a popped range at {} is not inside memory", range.start);
    size += range.size_bytes;
  }
  const uint8_t answer = ExecuteControlCommand(std::span(command).first(size), features_, control_);
  if (answer != kNetControlOk) {
    transport_->guest_faults().Count(GuestFault::kNetControlRefused);
    control_log_.Log(LogLevel::kDebug, "{}: control command {}.{} of {} bytes refused",
                     options_.name, command[0], command[1], size);
  }
  return answer;
}

}  // namespace pacsvisor
