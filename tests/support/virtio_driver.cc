#include "tests/support/virtio_driver.h"

#include <algorithm>
#include <thread>

#include "devices/virtio/full_fence.h"

namespace pacsvisor {

std::unique_ptr<GuestMemory> MakeTestMemory(uint64_t size_bytes) {
  const Result<MemoryLayout> layout = MemoryLayout::Create(size_bytes, 40);
  return GuestMemory::Create(*layout, MemoryBacking::kAnonymous).value();
}

GuestRange GuestHeap::Allocate(uint64_t size_bytes, uint64_t alignment) {
  const uint64_t start = AlignUp(next_, alignment);
  CHECK(start <= end_ && size_bytes <= end_ - start, "the test's guest memory is used up");
  next_ = start + size_bytes;
  return {GuestAddress(start), size_bytes};
}

GuestRange GuestHeap::Place(std::span<const uint8_t> bytes, uint64_t alignment) {
  const GuestRange range = Allocate(bytes.size(), alignment);
  CHECK(memory_.Write(range.start, bytes));
  return range;
}

GuestRange GuestHeap::Place(std::string_view text) {
  const std::vector<uint8_t> bytes(text.begin(), text.end());
  return Place(bytes, 1);
}

std::vector<uint8_t> GuestHeap::Read(GuestRange range) const {
  std::vector<uint8_t> bytes(range.size_bytes);
  CHECK(memory_.Read(range.start, bytes));
  return bytes;
}

VirtqueueDriver::VirtqueueDriver(GuestMemory& memory, GuestHeap& heap, uint16_t size,
                                 VirtqueueFeatures features)
    : memory_(memory), heap_(heap), features_(features) {
  layout_.size = size;
  const auto ring = [&](uint64_t bytes, uint64_t alignment) {
    const GuestRange range = heap.Allocate(bytes, alignment);
    CHECK(memory.Fill(range, 0));
    return range.start;
  };
  layout_.descriptor_table = ring(VirtqDescriptorTableBytes(size), kVirtqDescriptorAlignment);
  layout_.available_ring = ring(VirtqAvailableRingBytes(size), kVirtqAvailableAlignment);
  layout_.used_ring = ring(VirtqUsedRingBytes(size), kVirtqUsedAlignment);
  for (uint32_t i = size; i > 0; --i) {
    free_.push_back(static_cast<uint16_t>(i - 1));
  }
}

uint16_t VirtqueueDriver::Load(GuestAddress ring, uint64_t offset) const {
  return memory_.LoadAcquire16(GuestAddress(ring.raw() + offset)).value();
}

void VirtqueueDriver::Store(GuestAddress ring, uint64_t offset, uint16_t value) {
  CHECK(memory_.StoreRelease16(GuestAddress(ring.raw() + offset), value));
}

uint16_t VirtqueueDriver::TakeDescriptor() {
  CHECK(!free_.empty(), "the test's queue of {} is full", layout_.size);
  const uint16_t index = free_.back();
  free_.pop_back();
  return index;
}

uint16_t VirtqueueDriver::Add(std::span<const VirtioBuffer> buffers) {
  CHECK(!buffers.empty());
  Chain chain;
  for (size_t i = 0; i < buffers.size(); ++i) {
    chain.descriptors.push_back(TakeDescriptor());
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    const VirtioBuffer& buffer = buffers[i];
    chain.writable_bytes += buffer.device_writable ? buffer.range.size_bytes : 0;
    WriteDescriptor(
        chain.descriptors[i],
        {.address = buffer.range.start.raw(),
         .length_bytes = static_cast<uint32_t>(buffer.range.size_bytes),
         .flags = static_cast<uint16_t>((buffer.device_writable ? kVirtqDescriptorWrite : 0) |
                                        (last ? 0 : kVirtqDescriptorNext)),
         .next = last ? uint16_t{0} : chain.descriptors[i + 1]});
  }
  const uint16_t head = chain.descriptors.front();
  chains_[head] = std::move(chain);
  PublishHead(head);
  return head;
}

uint16_t VirtqueueDriver::Add(std::initializer_list<VirtioBuffer> buffers) {
  return Add(std::span(buffers.begin(), buffers.size()));
}

uint16_t VirtqueueDriver::AddIndirect(std::span<const VirtioBuffer> buffers) {
  CHECK(!buffers.empty());
  const GuestRange table = heap_.Allocate(buffers.size() * sizeof(VirtqDescriptor));
  Chain chain;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    const VirtioBuffer& buffer = buffers[i];
    chain.writable_bytes += buffer.device_writable ? buffer.range.size_bytes : 0;
    WriteIndirect(
        table.start, static_cast<uint32_t>(i),
        {.address = buffer.range.start.raw(),
         .length_bytes = static_cast<uint32_t>(buffer.range.size_bytes),
         .flags = static_cast<uint16_t>((buffer.device_writable ? kVirtqDescriptorWrite : 0) |
                                        (last ? 0 : kVirtqDescriptorNext)),
         .next = static_cast<uint16_t>(last ? 0 : i + 1)});
  }
  const uint16_t head = TakeDescriptor();
  chain.descriptors.push_back(head);
  WriteDescriptor(head, {.address = table.start.raw(),
                         .length_bytes = static_cast<uint32_t>(table.size_bytes),
                         .flags = kVirtqDescriptorIndirect});
  chains_[head] = std::move(chain);
  PublishHead(head);
  return head;
}

uint16_t VirtqueueDriver::AddIndirect(std::initializer_list<VirtioBuffer> buffers) {
  return AddIndirect(std::span(buffers.begin(), buffers.size()));
}

void VirtqueueDriver::PublishHead(uint16_t head) {
  const uint64_t slot = next_available_ & (layout_.size - 1u);
  Store(layout_.available_ring, kVirtqRingEntries + kVirtqAvailableEntryBytes * slot, head);
  SetAvailableIndex(static_cast<uint16_t>(next_available_ + 1));
}

bool VirtqueueDriver::WantsKick() {
  FullFence();
  const uint16_t before = std::exchange(kicked_available_, next_available_);
  if (features_.event_index) {
    return VirtqNeedEvent(available_event(), next_available_, before);
  }
  return (used_flags() & kVirtqUsedNoNotify) == 0;
}

bool VirtqueueDriver::Kick(const EventFd& doorbell) {
  if (!WantsKick()) {
    return false;
  }
  doorbell.Signal();
  return true;
}

std::optional<VirtqueueDriver::Used> VirtqueueDriver::TakeUsed() {
  if (used_index() == next_used_) {
    return std::nullopt;
  }
  const uint64_t slot = next_used_ & (layout_.size - 1u);
  const auto element = memory_
                           .ReadObject<VirtqUsedElement>(
                               GuestAddress(layout_.used_ring.raw() + kVirtqRingEntries + 8 * slot))
                           .value();
  ++next_used_;
  const auto chain = chains_.find(static_cast<uint16_t>(element.head));
  CHECK(element.head < layout_.size && chain != chains_.end(), "used entry names chain {}",
        element.head);
  CHECK(element.written_bytes <= chain->second.writable_bytes,
        "the device claims {} bytes written, the chain takes {}", element.written_bytes,
        chain->second.writable_bytes);
  free_.insert(free_.end(), chain->second.descriptors.rbegin(), chain->second.descriptors.rend());
  chains_.erase(chain);
  return Used{static_cast<uint16_t>(element.head), element.written_bytes};
}

std::optional<VirtqueueDriver::Used> VirtqueueDriver::WaitUsed(const FakeVirtioTransport& transport,
                                                               uint16_t queue,
                                                               std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    const uint64_t seen = transport.queue_interrupts(queue);
    EnableInterrupts();
    if (const std::optional<Used> used = TakeUsed()) {
      return used;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0 || !transport.WaitForQueueInterrupt(queue, seen, left)) {
      return std::nullopt;
    }
  }
}

std::optional<VirtqueueDriver::Used> VirtqueueDriver::PollUsed(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    if (const std::optional<Used> used = TakeUsed()) {
      return used;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return std::nullopt;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

bool VirtqueueDriver::EnableInterrupts() {
  if (features_.event_index) {
    SetUsedEvent(next_used_);
  } else {
    SetAvailableFlags(0);
  }
  FullFence();
  return used_index() != next_used_;
}

void VirtqueueDriver::DisableInterrupts() {
  if (features_.event_index) {
    // An event just passed: 2^16 - 1 entries away.
    SetUsedEvent(static_cast<uint16_t>(next_used_ - 1));
  } else {
    SetAvailableFlags(kVirtqAvailableNoInterrupt);
  }
}

VirtqDescriptor VirtqueueDriver::ReadDescriptor(uint16_t index) const {
  return memory_
      .ReadObject<VirtqDescriptor>(
          GuestAddress(layout_.descriptor_table.raw() + sizeof(VirtqDescriptor) * index))
      .value();
}

void VirtqueueDriver::WriteDescriptor(uint16_t index, const VirtqDescriptor& descriptor) {
  WriteIndirect(layout_.descriptor_table, index, descriptor);
}

void VirtqueueDriver::WriteIndirect(GuestAddress table, uint32_t index,
                                    const VirtqDescriptor& descriptor) {
  CHECK(memory_.WriteObject(GuestAddress(table.raw() + sizeof(descriptor) * uint64_t{index}),
                            descriptor));
}

void VirtqueueDriver::SetAvailableIndex(uint16_t index) {
  next_available_ = index;
  Store(layout_.available_ring, kVirtqRingIndex, index);
}

void VirtqueueDriver::SetAvailableFlags(uint16_t flags) {
  Store(layout_.available_ring, kVirtqRingFlags, flags);
}

void VirtqueueDriver::SetUsedEvent(uint16_t index) {
  Store(layout_.available_ring, VirtqUsedEventOffset(layout_.size), index);
}

uint16_t VirtqueueDriver::used_index() const { return Load(layout_.used_ring, kVirtqRingIndex); }

uint16_t VirtqueueDriver::used_flags() const { return Load(layout_.used_ring, kVirtqRingFlags); }

uint16_t VirtqueueDriver::available_event() const {
  return Load(layout_.used_ring, VirtqAvailableEventOffset(layout_.size));
}

}  // namespace pacsvisor
