// The driver's side of a split virtqueue, as a guest kernel would have it: lays out the rings in
// guest memory, adds chains, kicks when the device wants it, takes used entries. It keeps the rules
// of virtio 1.2, section 2.7, unless a test breaks them with the raw accessors at the end. Threads:
// one at a time, beside the device's.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "devices/virtio/split_ring.h"
#include "devices/virtio/virtqueue.h"
#include "tests/support/fake_virtio_transport.h"
#include "vmm/base/event_fd.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

// Memory of a machine with `size_bytes` (from 2 MiB on; above 3 GiB there is the hole).
std::unique_ptr<GuestMemory> MakeTestMemory(uint64_t size_bytes = 16 * kMiB);

// Hands out pieces of guest memory, never takes them back. Fails the process when exhausted.
class GuestHeap {
 public:
  GuestHeap(GuestMemory& memory, GuestAddress start, uint64_t size_bytes)
      : memory_(memory), next_(start.raw()), end_(start.raw() + size_bytes) {}

  GuestRange Allocate(uint64_t size_bytes, uint64_t alignment = 16);
  GuestRange Place(std::span<const uint8_t> bytes, uint64_t alignment = 16);  // and fills it
  GuestRange Place(std::string_view text);
  std::vector<uint8_t> Read(GuestRange range) const;

 private:
  GuestMemory& memory_;
  uint64_t next_;
  const uint64_t end_;
};

struct VirtioBuffer {
  GuestRange range;
  bool device_writable = false;
};
inline VirtioBuffer Readable(GuestRange range) { return {range, false}; }
inline VirtioBuffer Writable(GuestRange range) { return {range, true}; }

class VirtqueueDriver {
 public:
  struct Used {
    uint16_t head = 0;
    uint32_t written_bytes = 0;
  };

  // Takes ring space from `heap`. Every size that is a power of two works, 1 included.
  VirtqueueDriver(GuestMemory& memory, GuestHeap& heap, uint16_t size, VirtqueueFeatures features);

  const VirtqueueLayout& layout() const { return layout_; }
  VirtqueueFeatures features() const { return features_; }

  // Makes a chain available and returns its head; the test fails when descriptors run out. Direct:
  // one descriptor a buffer. Indirect: one descriptor that names a table taken from the heap.
  uint16_t Add(std::span<const VirtioBuffer> buffers);
  uint16_t Add(std::initializer_list<VirtioBuffer> buffers);
  uint16_t AddIndirect(std::span<const VirtioBuffer> buffers);
  uint16_t AddIndirect(std::initializer_list<VirtioBuffer> buffers);
  uint16_t free_descriptors() const { return static_cast<uint16_t>(free_.size()); }

  // Whether the device asked to be notified of what was added since the last call (2.7.10, full
  // fence included); Kick signals the doorbell in that case. KickAlways signals in any case.
  bool WantsKick();
  bool Kick(const EventFd& doorbell);
  void KickAlways(const EventFd& doorbell) { doorbell.Signal(); }

  // The next finished chain, if any: its descriptors are free again. A used entry that names no
  // chain in flight, or claims more bytes than its chain can take, fails the test.
  std::optional<Used> TakeUsed();
  // Waits by interrupts only: a device that forgets one runs into the deadline.
  std::optional<Used> WaitUsed(const FakeVirtioTransport& transport, uint16_t queue,
                               std::chrono::milliseconds limit = kTestDeadline);
  // Waits by looking at the ring, for queues without interrupts.
  std::optional<Used> PollUsed(std::chrono::milliseconds limit = kTestDeadline);
  // Chains added and not yet taken back.
  size_t in_flight() const { return chains_.size(); }

  // Interrupts: flags, or used_event at what was taken last. True when used entries are there.
  bool EnableInterrupts();
  void DisableInterrupts();

  // Raw access, with which a test breaks the rules.
  VirtqDescriptor ReadDescriptor(uint16_t index) const;
  void WriteDescriptor(uint16_t index, const VirtqDescriptor& descriptor);
  void WriteIndirect(GuestAddress table, uint32_t index, const VirtqDescriptor& descriptor);
  // Puts `head` into the next entry of the available ring and moves the index; no book-keeping.
  void PublishHead(uint16_t head);
  void SetAvailableIndex(uint16_t index);
  void SetAvailableFlags(uint16_t flags);
  void SetUsedEvent(uint16_t index);
  uint16_t available_index() const { return next_available_; }
  uint16_t used_index() const;
  uint16_t used_flags() const;
  uint16_t available_event() const;

 private:
  struct Chain {
    std::vector<uint16_t> descriptors;
    uint64_t writable_bytes = 0;
  };
  uint16_t TakeDescriptor();
  uint16_t Load(GuestAddress ring, uint64_t offset) const;
  void Store(GuestAddress ring, uint64_t offset, uint16_t value);

  GuestMemory& memory_;
  GuestHeap& heap_;
  const VirtqueueFeatures features_;
  VirtqueueLayout layout_;
  std::vector<uint16_t> free_;
  std::map<uint16_t, Chain> chains_;  // in flight, by head
  uint16_t next_available_ = 0;
  uint16_t kicked_available_ = 0;  // next_available_ at the last WantsKick
  uint16_t next_used_ = 0;
};

}  // namespace pacsvisor
