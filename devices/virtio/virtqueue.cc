#include "devices/virtio/virtqueue.h"

#include <array>
#include <utility>

#include "devices/virtio/full_fence.h"
#include "devices/virtio/split_ring.h"

namespace pacsvisor {
namespace {

// The driver must not add a chain longer than this in total (virtio 1.2, 2.7.5.2).
constexpr uint64_t kMaxChainBytes = uint64_t{1} << 32;
constexpr uint32_t kVirtqueueStateVersion = 1;

// `base` + `offset` lies inside a ring that was found to lie inside memory: it cannot overflow.
GuestAddress At(GuestAddress base, uint64_t offset) { return GuestAddress(base.raw() + offset); }

Status CheckRing(const GuestMemory& memory, const char* name, GuestAddress start,
                 uint64_t alignment, uint64_t size_bytes) {
  if (!IsAligned(start.raw(), alignment)) {
    return Error::Make(ErrorCode::kInvalidArgument, "{} at {} is not {}-byte aligned", name, start,
                       alignment);
  }
  if (!memory.Contains({start, size_bytes})) {
    return Error::Make(ErrorCode::kInvalidArgument, "{} at {}, {} bytes, is not inside memory",
                       name, start, size_bytes);
  }
  return {};
}

}  // namespace

// The table being walked: the queue's own, or the indirect one a descriptor of it names.
struct Virtqueue::Table {
  GuestAddress start;
  uint32_t entries = 0;
  bool indirect = false;
};

Result<Virtqueue> Virtqueue::Create(GuestMemory& memory, const VirtqueueLayout& layout,
                                    VirtqueueFeatures features) {
  if (!IsPowerOfTwo(layout.size) || layout.size > kVirtqMaxSize) {
    return Error::Make(ErrorCode::kInvalidArgument, "queue size {} is not a power of two up to {}",
                       layout.size, kVirtqMaxSize);
  }
  TRY(CheckRing(memory, "descriptor table", layout.descriptor_table, kVirtqDescriptorAlignment,
                VirtqDescriptorTableBytes(layout.size)));
  TRY(CheckRing(memory, "available ring", layout.available_ring, kVirtqAvailableAlignment,
                VirtqAvailableRingBytes(layout.size)));
  TRY(CheckRing(memory, "used ring", layout.used_ring, kVirtqUsedAlignment,
                VirtqUsedRingBytes(layout.size)));
  return Virtqueue(memory, layout, features);
}

uint16_t Virtqueue::LoadRing16(GuestAddress ring, uint64_t offset) const {
  const std::optional<uint16_t> value = memory_->LoadAcquire16(At(ring, offset));
  CHECK(value.has_value(), "ring {} was checked when the queue was made", ring);
  return *value;
}

void Virtqueue::StoreRing16(GuestAddress ring, uint64_t offset, uint16_t value) {
  const bool stored = memory_->StoreRelease16(At(ring, offset), value);
  CHECK(stored, "ring {} was checked when the queue was made", ring);
}

Virtqueue::PopResult Virtqueue::Break(GuestFault rule, std::string reason) {
  broken_ = true;
  broken_rule_ = rule;
  broken_reason_ = std::move(reason);
  return PopResult::kBroken;
}

Virtqueue::PopResult Virtqueue::Pop(DescriptorChain& chain) {
  if (broken_) {
    return PopResult::kBroken;
  }
  uint16_t available = LoadRing16(layout_.available_ring, kVirtqRingIndex);
  if (available == next_available_ && notifications_enabled_) {
    PublishAvailableEvent();
    available = LoadRing16(layout_.available_ring, kVirtqRingIndex);
  }
  const auto pending = static_cast<uint16_t>(available - next_available_);
  if (pending == 0) {
    return PopResult::kEmpty;
  }
  if (pending > layout_.size) {
    return Break(GuestFault::kAvailableIndexJump,
                 fmt::format("available index moved from {} to {} in a queue of {}",
                             next_available_, available, layout_.size));
  }
  // A chain takes at least one descriptor, so that no more can be outstanding. What devices record
  // about requests in flight is bounded by this.
  if (in_flight() >= layout_.size) {
    return Break(
        GuestFault::kTooManyInFlight,
        fmt::format("more than {} chains in flight in a queue of {}", in_flight(), layout_.size));
  }
  const uint64_t slot = next_available_ & (layout_.size - 1u);
  const uint16_t head =
      LoadRing16(layout_.available_ring, kVirtqRingEntries + kVirtqAvailableEntryBytes * slot);
  const PopResult result = WalkChain(head, chain);
  if (result == PopResult::kChain) {
    ++next_available_;
  }
  return result;
}

Virtqueue::PopResult Virtqueue::ReadChain(uint16_t head, DescriptorChain& chain) {
  return broken_ ? PopResult::kBroken : WalkChain(head, chain);
}

Virtqueue::PopResult Virtqueue::WalkChain(uint16_t head, DescriptorChain& chain) {
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  chain.readable_bytes = 0;
  chain.writable_bytes = 0;
  if (head >= layout_.size) {
    return Break(GuestFault::kHeadBeyondQueue,
                 fmt::format("head {} in a queue of {}", head, layout_.size));
  }
  Table table{layout_.descriptor_table, layout_.size, false};
  uint32_t index = head;
  uint32_t in_table = 0;
  for (uint32_t total = 0; total < kMaxChainDescriptors; ++total) {
    // More descriptors than the table has: a loop.
    if (in_table++ == table.entries) {
      return Break(GuestFault::kChainLoop, fmt::format("chain of head {} loops", head));
    }
    VirtqDescriptor descriptor;
    if (!ReadDescriptor(table.start, index, descriptor)) {
      return Break(GuestFault::kIndirectTableOutsideMemory,
                   fmt::format("indirect table at {} is not inside memory", table.start));
    }
    if ((descriptor.flags & kVirtqDescriptorIndirect) != 0) {
      if (!EnterIndirect(descriptor, table)) {
        return PopResult::kBroken;
      }
      index = 0;
      in_table = 0;
      continue;
    }
    if (!AddBuffer(descriptor, chain)) {
      return PopResult::kBroken;
    }
    if ((descriptor.flags & kVirtqDescriptorNext) == 0) {
      return PopResult::kChain;
    }
    if (descriptor.next >= table.entries) {
      return Break(GuestFault::kNextBeyondTable, fmt::format("next descriptor {} in a table of {}",
                                                             descriptor.next, table.entries));
    }
    index = descriptor.next;
  }
  return Break(
      GuestFault::kChainTooLong,
      fmt::format("chain of head {} has more than {} descriptors", head, kMaxChainDescriptors));
}

bool Virtqueue::ReadDescriptor(GuestAddress table, uint32_t index,
                               VirtqDescriptor& descriptor) const {
  const std::optional<GuestAddress> address = table.Plus(sizeof(descriptor) * uint64_t{index});
  if (!address.has_value()) {
    return false;
  }
  const std::optional<VirtqDescriptor> read = memory_->ReadObject<VirtqDescriptor>(*address);
  if (!read.has_value()) {
    return false;
  }
  descriptor = *read;
  return true;
}

bool Virtqueue::EnterIndirect(const VirtqDescriptor& descriptor, Table& table) {
  // 2.7.5.3.1. The write flag of such a descriptor means nothing (2.7.5.3.2).
  if (!features_.indirect_descriptors) {
    Break(GuestFault::kIndirectNotNegotiated, "indirect descriptor without the feature");
    return false;
  }
  if (table.indirect) {
    Break(GuestFault::kIndirectInIndirect, "indirect descriptor in an indirect table");
    return false;
  }
  if ((descriptor.flags & kVirtqDescriptorNext) != 0) {
    Break(GuestFault::kIndirectWithNext, "indirect descriptor with a next one");
    return false;
  }
  if (descriptor.length_bytes == 0 || descriptor.length_bytes % sizeof(VirtqDescriptor) != 0) {
    Break(GuestFault::kIndirectTableSize,
          fmt::format("indirect table of {} bytes", descriptor.length_bytes));
    return false;
  }
  const GuestAddress start(descriptor.address);
  if (!memory_->Contains({start, descriptor.length_bytes})) {
    Break(GuestFault::kIndirectTableOutsideMemory,
          fmt::format("indirect table at {} is not inside memory", start));
    return false;
  }
  table.start = start;
  table.entries = descriptor.length_bytes / static_cast<uint32_t>(sizeof(VirtqDescriptor));
  table.indirect = true;
  return true;
}

bool Virtqueue::AddBuffer(const VirtqDescriptor& descriptor, DescriptorChain& chain) {
  const bool writable = (descriptor.flags & kVirtqDescriptorWrite) != 0;
  if (!writable && !chain.writable.empty()) {
    // 2.7.4.2: device-writable elements follow all device-readable ones.
    Break(GuestFault::kReadableBehindWritable,
          fmt::format("readable descriptor behind a writable one in the chain of head {}",
                      chain.head));
    return false;
  }
  if (descriptor.length_bytes == 0) {
    return true;  // not forbidden, and nothing to access
  }
  const GuestRange range{GuestAddress(descriptor.address), descriptor.length_bytes};
  if (!memory_->Contains(range)) {
    Break(
        GuestFault::kBufferOutsideMemory,
        fmt::format("buffer at {}, {} bytes, is not inside memory", range.start, range.size_bytes));
    return false;
  }
  (writable ? chain.writable : chain.readable).push_back(range);
  (writable ? chain.writable_bytes : chain.readable_bytes) += range.size_bytes;
  if (chain.readable_bytes + chain.writable_bytes > kMaxChainBytes) {
    Break(GuestFault::kChainTooManyBytes,
          fmt::format("chain of head {} is longer than 4 GiB", chain.head));
    return false;
  }
  return true;
}

void Virtqueue::UndoPop() {
  if (broken_) {
    return;
  }
  CHECK(in_flight() > 0, "nothing was popped");
  --next_available_;
}

void Virtqueue::Push(uint16_t head, uint32_t written_bytes) {
  const FinishedChain chain{.head = head, .written_bytes = written_bytes};
  PushTogether({&chain, 1});
}

void Virtqueue::PushTogether(std::span<const FinishedChain> chains) {
  if (broken_) {
    return;
  }
  CHECK(in_flight() >= chains.size(), "{} chains finished, but {} in flight", chains.size(),
        in_flight());
  for (const FinishedChain& chain : chains) {
    const uint64_t slot = next_used_ & (layout_.size - 1u);
    const VirtqUsedElement element{.head = chain.head, .written_bytes = chain.written_bytes};
    const bool written = memory_->WriteObject(
        At(layout_.used_ring, kVirtqRingEntries + sizeof(element) * slot), element);
    CHECK(written, "used ring {} was checked when the queue was made", layout_.used_ring);
    ++next_used_;
    if (next_used_ == signalled_used_) {
      signalled_used_valid_ = false;  // the index went round once unasked: the distance is lost
    }
  }
  StoreRing16(layout_.used_ring, kVirtqRingIndex, next_used_);
}

bool Virtqueue::ShouldInterrupt() {
  if (broken_) {
    return false;
  }
  const uint16_t before = std::exchange(signalled_used_, next_used_);
  const bool before_valid = std::exchange(signalled_used_valid_, true);
  if (before_valid && before == next_used_) {
    return false;  // nothing was pushed
  }
  FullFence();  // the used index is visible before the driver's wish is read (2.7.7.2)
  if (!features_.event_index) {
    return (LoadRing16(layout_.available_ring, kVirtqRingFlags) & kVirtqAvailableNoInterrupt) == 0;
  }
  const uint16_t event = LoadRing16(layout_.available_ring, VirtqUsedEventOffset(layout_.size));
  return !before_valid || VirtqNeedEvent(event, next_used_, before);
}

void Virtqueue::PublishAvailableEvent() {
  if (features_.event_index) {
    if (available_event_valid_ && available_event_ == next_available_) {
      return;
    }
    available_event_ = next_available_;
    available_event_valid_ = true;
    StoreRing16(layout_.used_ring, VirtqAvailableEventOffset(layout_.size), next_available_);
    FullFence();  // the wish is visible before the index is read again (2.7.10)
  }
}

bool Virtqueue::EnableNotifications() {
  if (broken_) {
    return false;
  }
  if (features_.event_index) {
    PublishAvailableEvent();
  } else if (!notifications_enabled_) {
    StoreRing16(layout_.used_ring, kVirtqRingFlags, 0);
    FullFence();  // as above
  }
  notifications_enabled_ = true;
  return LoadRing16(layout_.available_ring, kVirtqRingIndex) != next_available_;
}

void Virtqueue::DisableNotifications() {
  if (broken_ || !notifications_enabled_) {
    return;
  }
  notifications_enabled_ = false;
  // With the event index, an event that is not moved on asks for nothing (2.7.10).
  if (!features_.event_index) {
    StoreRing16(layout_.used_ring, kVirtqRingFlags, kVirtqUsedNoNotify);
  }
}

void Virtqueue::Save(StateNode& node) const {
  node.SetVersion(kVirtqueueStateVersion);
  node.SetU64("next_available", next_available_);
  node.SetU64("next_used", next_used_);
  node.SetU64("signalled_used", signalled_used_);
  node.SetBool("signalled_used_valid", signalled_used_valid_);
  node.SetBool("notifications_enabled", notifications_enabled_);
  node.SetBool("broken", broken_);
  node.SetString("broken_reason", broken_reason_);
}

Status Virtqueue::Load(const StateNode& node) {
  TRY(node.Version(kVirtqueueStateVersion));
  const auto next_available = TRY(node.Get<uint16_t>("next_available"));
  const auto next_used = TRY(node.Get<uint16_t>("next_used"));
  if (static_cast<uint16_t>(next_available - next_used) > layout_.size) {
    return Error::Make(ErrorCode::kCorrupt,
                       "saved state: queue of {} at available {} and used {} is not possible",
                       layout_.size, next_available, next_used);
  }
  next_available_ = next_available;
  next_used_ = next_used;
  signalled_used_ = TRY(node.Get<uint16_t>("signalled_used"));
  signalled_used_valid_ = TRY(node.Bool("signalled_used_valid"));
  notifications_enabled_ = TRY(node.Bool("notifications_enabled"));
  available_event_valid_ = false;
  broken_ = TRY(node.Bool("broken"));
  broken_rule_ = GuestFault::kSavedBroken;
  broken_reason_ = TRY(node.String("broken_reason"));
  return {};
}

}  // namespace pacsvisor
