// The device's side of a split virtqueue (virtio 1.2, section 2.7), with indirect descriptors
// (2.7.5.3) and the event index (2.7.10).
//
// Everything read from the rings is the guest's and hostile: copied once, checked, then used. A
// ring that breaks the rules makes the queue broken: Pop says so, the device asks for reset
// (DEVICE_NEEDS_RESET), and the queue is not touched again until then.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "devices/bus/guest_fault.h"
#include "devices/virtio/split_ring.h"
#include "vmm/base/result.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// As the driver wrote it to the common configuration (4.1.4.3), latched when the queue was enabled.
struct VirtqueueLayout {
  uint16_t size = 0;              // a power of two, at most the device's maximum
  GuestAddress descriptor_table;  // 16-byte aligned
  GuestAddress available_ring;    // 2-byte aligned
  GuestAddress used_ring;         // 4-byte aligned
};

struct VirtqueueFeatures {
  bool indirect_descriptors = false;  // VIRTIO_F_INDIRECT_DESC
  bool event_index = false;           // VIRTIO_F_EVENT_IDX
};

// One request of the driver: buffers to read from, then buffers to write to (2.7.4.2). Ranges lie
// wholly inside guest memory and are not empty (empty descriptors are left out); together they are
// at most 2^32 bytes.
struct DescriptorChain {
  uint16_t head = 0;  // returned to the driver by Push
  std::vector<GuestRange> readable;
  std::vector<GuestRange> writable;
  uint64_t readable_bytes = 0;
  uint64_t writable_bytes = 0;
};

// A finished chain: `written_bytes` of its writable part hold data.
struct FinishedChain {
  uint16_t head = 0;
  uint32_t written_bytes = 0;
};

// Threads: one at a time, under the device's queue lock.
class Virtqueue {
 public:
  enum class PopResult { kChain, kEmpty, kBroken };

  // A chain has at most this many descriptors, indirect ones included.
  static constexpr uint32_t kMaxChainDescriptors = 1024;

  // kInvalidArgument when the layout is not possible: size, alignment, rings outside memory.
  static Result<Virtqueue> Create(GuestMemory& memory, const VirtqueueLayout& layout,
                                  VirtqueueFeatures features);

  // Takes the next chain the driver made available into `chain` (its vectors are reused).
  PopResult Pop(DescriptorChain& chain);
  // A chain recorded by its head in a snapshot, read again from the descriptor table: validated
  // like any other, without moving the available index.
  PopResult ReadChain(uint16_t head, DescriptorChain& chain);
  // Gives the last popped chain back to the driver, as if it had not been popped (a receive buffer
  // for which no packet came). Only the most recently popped one.
  void UndoPop();
  // Publishes a finished chain: `written_bytes` of its writable part hold data. Data written before
  // (by accessors, or Landed()) is visible to the driver first.
  void Push(uint16_t head, uint32_t written_bytes);
  // The same for several, which the driver sees finished at once: the buffers of one merged packet
  // (5.1.6.4: it must observe at least num_buffers used).
  void PushTogether(std::span<const FinishedChain> chains);
  // After one or more Push: must the driver be interrupted? (2.7.7.2, 2.7.10.1)
  bool ShouldInterrupt();

  // Asks the driver for notifications, or not to (2.7.10). Enable returns true when chains became
  // available meanwhile: pop again instead of waiting. A new queue has them enabled; while they
  // are, a Pop that finds nothing asks as well.
  [[nodiscard]] bool EnableNotifications();
  void DisableNotifications();

  bool broken() const { return broken_; }
  // Once broken: which rule the driver broke.
  GuestFault broken_rule() const { return broken_rule_; }
  const std::string& broken_reason() const { return broken_reason_; }
  uint16_t size() const { return layout_.size; }
  const VirtqueueLayout& layout() const { return layout_; }
  // Chains popped and not yet pushed. A count of positions, not of heads: chains may be finished in
  // any order. It is at most size(). Whoever saves the heads of requests in flight saves exactly
  // this many, and pushes each of them once after the restore.
  uint16_t in_flight() const { return static_cast<uint16_t>(next_available_ - next_used_); }

  // Ring positions; the layout and features are the transport's to save.
  void Save(StateNode& node) const;
  Status Load(const StateNode& node);

 private:
  Virtqueue(GuestMemory& memory, const VirtqueueLayout& layout, VirtqueueFeatures features)
      : memory_(&memory), layout_(layout), features_(features) {}

  struct Table;
  PopResult Break(GuestFault rule, std::string reason);
  PopResult WalkChain(uint16_t head, DescriptorChain& chain);
  bool ReadDescriptor(GuestAddress table, uint32_t index, VirtqDescriptor& descriptor) const;
  // False: the queue is broken.
  bool EnterIndirect(const VirtqDescriptor& descriptor, Table& table);
  bool AddBuffer(const VirtqDescriptor& descriptor, DescriptorChain& chain);
  uint16_t LoadRing16(GuestAddress ring, uint64_t offset) const;
  void StoreRing16(GuestAddress ring, uint64_t offset, uint16_t value);
  // Event index: asks for a notification when the driver goes past next_available_.
  void PublishAvailableEvent();

  GuestMemory* memory_;
  VirtqueueLayout layout_;
  VirtqueueFeatures features_;
  uint16_t next_available_ = 0;       // index of the next entry of the available ring to pop
  uint16_t next_used_ = 0;            // index of the next entry of the used ring to fill
  uint16_t signalled_used_ = 0;       // next_used_ when ShouldInterrupt was last asked
  bool signalled_used_valid_ = true;  // false once next_used_ went round unasked
  uint16_t available_event_ = 0;      // last written to the used ring's event field
  bool available_event_valid_ = false;
  bool notifications_enabled_ = true;
  bool broken_ = false;
  GuestFault broken_rule_ = GuestFault::kSavedBroken;
  std::string broken_reason_;
};

}  // namespace pacsvisor
