#include "devices/block/block_queue_server.h"

#include <algorithm>
#include <array>
#include <utility>

namespace pacsvisor {

BlockQueueServer::BlockQueueServer(Options options, BlockBackend& backend,
                                   VirtioTransport& transport, GuestMemory& memory)
    : options_(std::move(options)), backend_(backend), transport_(transport), memory_(memory) {
  const MutexLock lock(mutex_);
  queues_.resize(options_.queue_count);
}

BlockQueueServer::~BlockQueueServer() {
  backend_.Drain();
  const MutexLock lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.in_use && slot.buffers.has_value() &&
        slot.request.operation == BlockOperation::kRead) {
      slot.buffers->Landed();
    }
  }
}

void BlockQueueServer::Service() {
  bool more = true;
  while (more) {
    {
      const MutexLock lock(mutex_);
      Publish();
      RaiseInterrupts();
      more = TakeRequests();
      RaiseInterrupts();
    }
    backend_.Kick();
    // What the page cache could answer has ended within Kick.
    more = backend_.Poll() > 0 || more;
  }
}

// ---- completions

void BlockQueueServer::Publish() {
  done_.clear();
  backend_.TakeCompletions(done_);
  for (const BlockRequest* request : done_) {
    Slot& slot = *static_cast<Slot*>(request->owner);
    if (request->operation == BlockOperation::kRead) {
      slot.buffers->Landed();
    }
    if (request->generation < reset_generation_) {
      --orphans_;
      FreeSlot(slot);
    } else {
      Complete(slot);
    }
  }
}

void BlockQueueServer::Complete(Slot& slot) {
  const bool failed = slot.request.error_number != 0;
  if (!failed && slot.next_segment < slot.segments.size()) {
    SubmitNextSegment(slot);
    return;
  }
  // 2.7.8.2: so many bytes from the beginning of the writable part were written; of a read that
  // failed, none for certain.
  const bool read = slot.request.operation == BlockOperation::kRead;
  const uint64_t written = read ? (failed ? 0 : slot.data_bytes + 1) : 1;
  queues_[slot.queue].by_head[slot.head] = nullptr;
  Answer(slot.queue, slot.head, slot.status_address,
         failed ? VirtioBlockStatus::kIoError : VirtioBlockStatus::kOk,
         static_cast<uint32_t>(written));
  FreeSlot(slot);
}

void BlockQueueServer::Answer(uint16_t queue, uint16_t head, GuestAddress status_address,
                              VirtioBlockStatus status, uint32_t written_bytes) {
  const bool written = memory_.WriteObject(status_address, static_cast<uint8_t>(status));
  CHECK(written, "the status byte at {} was checked with its chain", status_address);
  queues_[queue].ring->Push(head, written_bytes);
  queues_[queue].pushed = true;
}

void BlockQueueServer::RaiseInterrupts() {
  for (uint16_t index = 0; index < queues_.size(); ++index) {
    Queue& queue = queues_[index];
    if (std::exchange(queue.pushed, false) && queue.ring->ShouldInterrupt()) {
      transport_.InterruptQueue(index);
    }
  }
}

// ---- new requests

bool BlockQueueServer::TakeRequests() {
  if (!active_ || paused_ || failed_) {
    return false;
  }
  TakeRecorded();
  bool more = false;
  for (uint16_t index = 0; index < queues_.size(); ++index) {
    more = TakeFromQueue(index) || more;
  }
  return more && !failed_;
}

bool BlockQueueServer::TakeFromQueue(uint16_t index) {
  Virtqueue* ring = queues_[index].ring;
  if (ring == nullptr) {
    return false;
  }
  ring->DisableNotifications();
  for (unsigned count = 0; count < kBatch && !failed_; ++count) {
    if (options_.limiter != nullptr && !options_.limiter->Admit()) {
      return false;  // what is in the ring stays there, unannounced, until the timer calls Service
    }
    switch (ring->Pop(chain_)) {
      case Virtqueue::PopResult::kChain:
        Accept(index);
        break;
      case Virtqueue::PopResult::kEmpty:
        if (count > 0) {
          return true;  // Service comes back once these are on their way; until then: no doorbell
        }
        if (!ring->EnableNotifications()) {
          return false;
        }
        ring->DisableNotifications();
        break;
      case Virtqueue::PopResult::kBroken:
        Fail(ring->broken_rule(), ring->broken_reason());
        break;
    }
  }
  return true;
}

// After a restore: what was in flight when the machine was saved is submitted again, in the order
// of its first arrival, before anything new. The record comes from outside: a chain is read and
// checked like any other, and there must be as many as the ring says.
void BlockQueueServer::TakeRecorded() {
  const std::vector<RecordedHead> recorded = std::exchange(recorded_, {});
  for (uint16_t index = 0; index < queues_.size(); ++index) {
    const auto count = std::count_if(recorded.begin(), recorded.end(),
                                     [index](const auto& one) { return one.queue == index; });
    const Virtqueue* ring = queues_[index].ring;
    const bool broken = ring != nullptr && ring->broken();
    const int in_flight = ring == nullptr ? 0 : ring->in_flight();
    if (!recorded.empty() && !broken && count != in_flight) {
      Fail(GuestFault::kSavedBroken,
           fmt::format("saved state: {} requests of queue {}, but {} in flight", count, index,
                       in_flight));
      return;
    }
  }
  for (const RecordedHead& one : recorded) {
    Virtqueue& ring = *queues_[one.queue].ring;
    if (ring.ReadChain(one.head, chain_) == Virtqueue::PopResult::kBroken) {
      Fail(ring.broken_rule(), ring.broken_reason());
    }
    if (failed_) {
      return;
    }
    Accept(one.queue);
  }
}

void BlockQueueServer::Accept(uint16_t queue) {
  // One head twice in flight: the driver has made a chain available that it does not own.
  if (queues_[queue].by_head[chain_.head] != nullptr) {
    Fail(GuestFault::kHeadInFlight, fmt::format("head {} is in flight already", chain_.head));
    return;
  }
  ParseBlockRequest(memory_, chain_, limits_, parsed_);
  if (options_.limiter != nullptr) {
    Charge();
  }
  if (!parsed_.complaint.empty()) {
    transport_.guest_faults().Count(parsed_.fault);
    log_.Log(LogLevel::kWarning, "{}: queue {}: {}", options_.name, queue, parsed_.complaint);
  }
  switch (parsed_.action) {
    case ParsedBlockRequest::Action::kSubmit:
      return Start(queue);
    case ParsedBlockRequest::Action::kAnswer:
      return Answer(queue, chain_.head, parsed_.status_address, parsed_.status,
                    chain_.writable_bytes == 1 ? 1 : 0);
    case ParsedBlockRequest::Action::kGetId:
      return AnswerId(queue);
    case ParsedBlockRequest::Action::kNeedsReset:
      return Fail(parsed_.fault, parsed_.complaint, Rule::kCounted);
  }
}

// Each request is an operation, a discard or write-zeroes one for each segment. Bytes are what is
// read, written or zeroed: a discard moves none.
void BlockQueueServer::Charge() {
  const bool discard = parsed_.operation == BlockOperation::kDiscard;
  uint64_t bytes = 0;
  for (const ParsedBlockRequest::Segment& segment : parsed_.segments) {
    bytes += discard ? 0 : segment.size_bytes;
  }
  options_.limiter->Charge(bytes, std::max<uint64_t>(1, parsed_.segments.size()));
}

void BlockQueueServer::AnswerId(uint16_t queue) {
  // NUL-padded, not terminated (5.2.6).
  std::array<uint8_t, kVirtioBlockIdBytes> id{};
  std::copy_n(options_.serial.begin(), std::min(options_.serial.size(), id.size()), id.begin());
  std::span<const uint8_t> rest = id;
  for (const GuestRange& range : parsed_.data) {
    const bool written = memory_.Write(range.start, rest.first(range.size_bytes));
    CHECK(written, "the buffer at {} was checked with its chain", range.start);
    rest = rest.subspan(range.size_bytes);
  }
  const bool whole = chain_.writable_bytes == parsed_.data_bytes + 1;
  Answer(queue, chain_.head, parsed_.status_address, VirtioBlockStatus::kOk,
         static_cast<uint32_t>(parsed_.data_bytes + (whole ? 1 : 0)));
}

void BlockQueueServer::Start(uint16_t queue) {
  Slot& slot = TakeSlot();
  slot.queue = queue;
  slot.head = chain_.head;
  slot.status_address = parsed_.status_address;
  slot.sequence = next_sequence_++;
  slot.data_bytes = parsed_.data_bytes;
  slot.segments.swap(parsed_.segments);
  slot.next_segment = 0;
  slot.request = {.operation = parsed_.operation, .owner = &slot};
  if (!parsed_.data.empty()) {
    std::optional<GuestIoVector> buffers = GuestIoVector::Create(
        memory_, parsed_.data,
        parsed_.operation == BlockOperation::kRead ? IoDirection::kDeviceWrites
                                                   : IoDirection::kDeviceReads);
    CHECK(buffers.has_value(), "the buffers of head {} were checked with their chain", slot.head);
    slot.buffers.emplace(std::move(*buffers));
    slot.request.iovecs = slot.buffers->iovecs();
  }
  queues_[queue].by_head[slot.head] = &slot;
  SubmitNextSegment(slot);
}

void BlockQueueServer::SubmitNextSegment(Slot& slot) {
  if (slot.next_segment < slot.segments.size()) {
    const ParsedBlockRequest::Segment& segment = slot.segments[slot.next_segment++];
    slot.request.offset_bytes = segment.offset_bytes;
    slot.request.size_bytes = segment.size_bytes;
    slot.request.may_unmap = segment.may_unmap;
  }
  // 5.2.6.2: where the driver did not take VIRTIO_BLK_F_FLUSH, a write is stable once completed.
  slot.request.durable = durable_writes_ && ChangesDisk(slot.request.operation);
  backend_.Submit(slot.request);
}

void BlockQueueServer::Fail(GuestFault rule, std::string_view reason, Rule counted) {
  if (counted == Rule::kCount) {
    transport_.guest_faults().Count(rule);
  }
  if (!std::exchange(failed_, true)) {
    transport_.NeedsReset(reason);
  }
}

BlockQueueServer::Slot& BlockQueueServer::TakeSlot() {
  if (free_slots_.empty()) {
    free_slots_.push_back(&slots_.emplace_back());
  }
  Slot& slot = *free_slots_.back();
  free_slots_.pop_back();
  slot.in_use = true;
  return slot;
}

void BlockQueueServer::FreeSlot(Slot& slot) {
  slot.buffers.reset();
  slot.in_use = false;
  free_slots_.push_back(&slot);
}

}  // namespace pacsvisor
