// The life of a BlockQueueServer: activation, reset, pause, saving and loading.
#include <algorithm>
#include <utility>

#include "devices/block/block_queue_server.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kBlockQueueServerLifeStateVersion = 1;

}  // namespace

void BlockQueueServer::Activate(const VirtioActivation& activation) {
  const MutexLock lock(mutex_);
  CHECK(!active_, "{} activated twice", options_.name);
  active_ = true;
  durable_writes_ = (activation.features & kVirtioBlockFlush) == 0;
  limits_ = options_.limits;
  limits_.discard = limits_.discard && (activation.features & kVirtioBlockDiscard) != 0;
  limits_.write_zeroes =
      limits_.write_zeroes && (activation.features & kVirtioBlockWriteZeroes) != 0;
  for (const VirtioQueueHandle& handle : activation.queues) {
    CHECK(handle.index < queues_.size(), "queue {} of {}", handle.index, queues_.size());
    Queue& queue = queues_[handle.index];
    queue.ring = handle.queue;
    queue.by_head.assign(handle.queue->size(), nullptr);
  }
}

void BlockQueueServer::StartReset() {
  const MutexLock lock(mutex_);
  recorded_.clear();
  failed_ = false;
  if (!std::exchange(active_, false)) {
    return;
  }
  reset_generation_ = backend_.RaiseGeneration();
  // Orphans include writes: their buffers are still being read, and the driver may use the memory
  // for something else once the reset is complete.
  orphans_ = static_cast<size_t>(
      std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.in_use; }));
  for (Queue& queue : queues_) {
    queue = {};
  }
}

bool BlockQueueServer::ResetComplete() const {
  const MutexLock lock(mutex_);
  return orphans_ == 0;
}

void BlockQueueServer::Pause() {
  const MutexLock lock(mutex_);
  paused_ = true;
  backend_.CloseGate();
  for (Slot& slot : slots_) {
    if (slot.in_use && slot.buffers.has_value()) {
      slot.buffers->MarkInFlight();
    }
  }
}

void BlockQueueServer::Resume() {
  const MutexLock lock(mutex_);
  paused_ = false;
  backend_.OpenGate();
}

// In the order of their arrival: of two that overlap, the later one wins again.
std::vector<BlockQueueServer::RecordedHead> BlockQueueServer::HeadsInFlight() const {
  std::vector<RecordedHead> heads = recorded_;
  if (!active_) {
    return heads;
  }
  std::vector<const Slot*> slots;
  for (const Slot& slot : slots_) {
    if (slot.in_use) {
      slots.push_back(&slot);
    }
  }
  std::sort(slots.begin(), slots.end(),
            [](const Slot* left, const Slot* right) { return left->sequence < right->sequence; });
  for (const Slot* slot : slots) {
    heads.push_back({slot->queue, slot->head});
  }
  return heads;
}

void BlockQueueServer::Save(StateNode& node) const {
  const MutexLock lock(mutex_);
  CHECK(paused_, "{} saved while it runs", options_.name);
  node.SetVersion(kBlockQueueServerLifeStateVersion);
  node.SetU64("capacity_bytes", backend_.size_bytes());
  node.SetBool("read_only", backend_.read_only());
  node.SetU64("queue_count", options_.queue_count);
  node.SetBool("failed", failed_);
  for (const RecordedHead& one : HeadsInFlight()) {
    StateNode& head = node.AppendTo("in_flight");
    head.SetU64("queue", one.queue);
    head.SetU64("head", one.head);
  }
}

Status BlockQueueServer::Load(const StateNode& node) {
  const MutexLock lock(mutex_);
  CHECK(paused_ && !active_, "{} loaded while it runs", options_.name);
  TRY(node.Version(kBlockQueueServerLifeStateVersion));
  const uint64_t capacity_bytes = TRY(node.U64("capacity_bytes"));
  const bool read_only = TRY(node.Bool("read_only"));
  const uint64_t queue_count = TRY(node.U64("queue_count"));
  if (capacity_bytes != backend_.size_bytes() || read_only != backend_.read_only() ||
      queue_count != options_.queue_count) {
    return Error::Make(
        ErrorCode::kInvalidArgument,
        "{}: saved as a disk of {} bytes{} with {} queues, but {} has {} bytes{} and {} queues",
        options_.name, capacity_bytes, read_only ? ", read-only," : "", queue_count,
        backend_.name(), backend_.size_bytes(), backend_.read_only() ? ", read-only," : "",
        options_.queue_count);
  }
  const bool failed = TRY(node.Bool("failed"));
  std::vector<RecordedHead> recorded;
  for (const StateNode& head : TRY(node.Children("in_flight"))) {
    recorded.push_back({static_cast<uint16_t>(TRY(head.U64("queue", options_.queue_count - 1u))),
                        TRY(head.Get<uint16_t>("head"))});
  }
  failed_ = failed;
  recorded_ = std::move(recorded);
  return {};
}

}  // namespace pacsvisor
