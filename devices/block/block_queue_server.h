// The queues of a virtio-blk device at work: takes requests from the rings, hands them to the disk,
// gives them back when they are done. It has no thread of its own: VirtioBlock's worker calls
// Service.
//
// Requests in flight are slots. A slot lives from the pop of its chain until its completion came
// through the disk's gate; when the device was reset meanwhile, its pages are marked and the rings
// are left alone (an orphan).
//
// Threads and locks: mutex_ is the device's queue lock. The worker holds it while it pops, pushes
// and writes guest memory, never while it enters the kernel for I/O. Pause, StartReset and the
// others wait for it, which is never long: a batch has an end.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/block/block_request_parser.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/base/log.h"
#include "vmm/base/rate_limiter.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/disk/block_backend.h"
#include "vmm/memory/guest_io_vector.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

class BlockQueueServer {
 public:
  struct Options {
    std::string name;    // for messages
    std::string serial;  // at most 20 bytes
    uint16_t queue_count = 1;
    BlockRequestLimits limits;             // discard and write_zeroes as offered
    std::shared_ptr<RateLimiter> limiter;  // null: no limit
  };

  // All borrowed; they outlive the server.
  BlockQueueServer(Options options, BlockBackend& backend, VirtioTransport& transport,
                   GuestMemory& memory);
  // Waits for the host's I/O. The worker has ended.
  ~BlockQueueServer();

  // Worker thread: does all there is to do, until the rings are empty (or the limit is reached: the
  // limiter's timer is set) and the disk has nothing to report.
  void Service();

  // vCPU threads.
  void Activate(const VirtioActivation& activation);
  void StartReset();
  bool ResetComplete() const;

  // Control thread.
  void Pause();
  void Resume();
  void Save(StateNode& node) const;
  Status Load(const StateNode& node);

  // Any thread: requests that broke the rules so far.
  uint64_t malformed_requests() const { return log_.count(); }

 private:
  // Requests popped under one hold of the lock, of each queue.
  static constexpr unsigned kBatch = 64;

  struct Slot {
    BlockRequest request;
    std::optional<GuestIoVector> buffers;
    GuestAddress status_address;
    uint64_t sequence = 0;  // order of arrival
    uint64_t data_bytes = 0;
    std::vector<ParsedBlockRequest::Segment> segments;
    size_t next_segment = 0;
    uint16_t queue = 0;
    uint16_t head = 0;
    bool in_use = false;
  };
  struct Queue {
    Virtqueue* ring = nullptr;  // null: not enabled
    std::vector<Slot*> by_head;
    bool pushed = false;  // since the last interrupt decision
  };
  struct RecordedHead {
    uint16_t queue = 0;
    uint16_t head = 0;
  };

  // Completions.
  void Publish() REQUIRES(mutex_);
  void Complete(Slot& slot) REQUIRES(mutex_);
  void Answer(uint16_t queue, uint16_t head, GuestAddress status_address, VirtioBlockStatus status,
              uint32_t written_bytes) REQUIRES(mutex_);
  void RaiseInterrupts() REQUIRES(mutex_);
  // New requests. True when there may be more.
  bool TakeRequests() REQUIRES(mutex_);
  bool TakeFromQueue(uint16_t index) REQUIRES(mutex_);
  void Charge() REQUIRES(mutex_);  // what is in parsed_
  void TakeRecorded() REQUIRES(mutex_);
  void Accept(uint16_t queue) REQUIRES(mutex_);  // what is in chain_
  void AnswerId(uint16_t queue) REQUIRES(mutex_);
  void Start(uint16_t queue) REQUIRES(mutex_);
  void SubmitNextSegment(Slot& slot) REQUIRES(mutex_);
  // `counted`: the rule is in the counts already.
  enum class Rule { kCount, kCounted };
  void Fail(GuestFault rule, std::string_view reason, Rule counted = Rule::kCount) REQUIRES(mutex_);
  Slot& TakeSlot() REQUIRES(mutex_);
  void FreeSlot(Slot& slot) REQUIRES(mutex_);
  std::vector<RecordedHead> HeadsInFlight() const REQUIRES(mutex_);

  // Constant after construction.
  const Options options_;
  BlockBackend& backend_;
  VirtioTransport& transport_;
  GuestMemory& memory_;
  // Any thread.
  RateLimitedLog log_;
  // Guarded.
  mutable Mutex mutex_;
  bool active_ GUARDED_BY(mutex_) = false;
  bool paused_ GUARDED_BY(mutex_) = false;
  bool failed_ GUARDED_BY(mutex_) = false;  // asked for a reset: takes nothing until then
  bool durable_writes_ GUARDED_BY(mutex_) = false;
  BlockRequestLimits limits_ GUARDED_BY(mutex_);
  uint64_t reset_generation_ GUARDED_BY(mutex_) = 0;  // requests of lower ones are orphans
  uint64_t next_sequence_ GUARDED_BY(mutex_) = 1;
  std::vector<Queue> queues_ GUARDED_BY(mutex_);
  std::deque<Slot> slots_ GUARDED_BY(mutex_);  // stable addresses
  std::vector<Slot*> free_slots_ GUARDED_BY(mutex_);
  size_t orphans_ GUARDED_BY(mutex_) = 0;
  std::vector<RecordedHead> recorded_ GUARDED_BY(mutex_);  // loaded, not yet submitted again
  // Scratch of the worker, reused; used under the lock.
  DescriptorChain chain_ GUARDED_BY(mutex_);
  ParsedBlockRequest parsed_ GUARDED_BY(mutex_);
  std::vector<BlockRequest*> done_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
