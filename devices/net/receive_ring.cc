#include "devices/net/receive_ring.h"

#include <algorithm>
#include <array>
#include <utility>

#include "vmm/base/check.h"

namespace pacsvisor {

void ReceiveRing::Bind(GuestMemory& memory, Virtqueue& queue, bool merge_buffers) {
  memory_ = &memory;
  queue_ = &queue;
  merge_buffers_ = merge_buffers;
  notifications_on_ = false;
  broken_reason_.clear();
  held_ = 0;
  queue.DisableNotifications();
}

void ReceiveRing::Unbind() {
  queue_ = nullptr;
  held_ = 0;
}

ReceiveRing::Outcome ReceiveRing::Break(GuestFault rule, std::string reason) {
  broken_rule_ = rule;
  broken_reason_ = std::move(reason);
  return Outcome::kBroken;
}

uint64_t ReceiveRing::held_bytes() const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < held_; ++i) {
    bytes += chains_[i].writable_bytes;
  }
  return bytes;
}

bool ReceiveRing::CheckBuffer(const DescriptorChain& chain) {
  if (!chain.readable.empty()) {
    Break(GuestFault::kBufferDirection, "receive buffer that the device may not write");
    return false;
  }
  // 5.1.6.3.1: each buffer holds at least the header.
  if (chain.writable_bytes < sizeof(VirtioNetHeader)) {
    Break(GuestFault::kBufferTooShort,
          fmt::format("receive buffer of {} bytes", chain.writable_bytes));
    return false;
  }
  return true;
}

Virtqueue::PopResult ReceiveRing::Hold() {
  if (held_ == chains_.size()) {
    chains_.emplace_back();
  }
  DescriptorChain& chain = chains_[held_];
  const Virtqueue::PopResult result = queue_->Pop(chain);
  if (result == Virtqueue::PopResult::kBroken) {
    Break(queue_->broken_rule(), queue_->broken_reason());
  } else if (result == Virtqueue::PopResult::kChain) {
    if (!CheckBuffer(chain)) {
      return Virtqueue::PopResult::kBroken;
    }
    ++held_;
  }
  return result;
}

// Holds buffers for `needed_bytes`: one that takes all, or as many as it needs.
ReceiveRing::Outcome ReceiveRing::Gather(uint64_t needed_bytes) {
  uint64_t bytes = merge_buffers_ || held_ == 0 ? held_bytes() : chains_[0].writable_bytes;
  while (bytes < needed_bytes) {
    if (held_ != 0 && !merge_buffers_) {
      return Outcome::kDropped;
    }
    switch (Hold()) {
      case Virtqueue::PopResult::kChain:
        bytes += chains_[held_ - 1].writable_bytes;
        break;
      case Virtqueue::PopResult::kBroken:
        return Outcome::kBroken;
      case Virtqueue::PopResult::kEmpty:
        if (queue_->in_flight() == queue_->size()) {
          return Outcome::kDropped;  // all there can ever be
        }
        notifications_on_ = true;
        if (!queue_->EnableNotifications()) {
          return queue_->broken() ? Break(queue_->broken_rule(), queue_->broken_reason())
                                  : Outcome::kNoRoom;
        }
        break;
    }
  }
  if (std::exchange(notifications_on_, false)) {
    queue_->DisableNotifications();
  }
  return Outcome::kDelivered;
}

ReceiveRing::Outcome ReceiveRing::Deliver(const NetPacket& packet) {
  uint64_t left = sizeof(VirtioNetHeader) + packet.frame.size();
  if (const Outcome gathered = Gather(left); gathered != Outcome::kDelivered) {
    return gathered;
  }
  finished_.clear();
  while (left != 0) {
    const DescriptorChain& chain = chains_[finished_.size()];
    const uint64_t part = std::min(left, chain.writable_bytes);
    finished_.push_back({.head = chain.head, .written_bytes = static_cast<uint32_t>(part)});
    left -= part;
  }
  Fill(packet, finished_.size());
  // 5.1.6.4: the driver observes all buffers of a packet used, or none.
  queue_->PushTogether(finished_);
  const auto first = chains_.begin();
  std::rotate(first, first + static_cast<ptrdiff_t>(finished_.size()),
              first + static_cast<ptrdiff_t>(held_));
  held_ -= finished_.size();
  return Outcome::kDelivered;
}

// Header and frame, one behind the other, over the ranges of the first `buffer_count` chains.
void ReceiveRing::Fill(const NetPacket& packet, size_t buffer_count) {
  VirtioNetHeader header = packet.header;
  header.buffer_count = static_cast<uint16_t>(buffer_count);
  // The header is an ABI structure without padding: its bytes are what the driver reads.
  std::array<std::span<const uint8_t>, 2> sources = {
      {{reinterpret_cast<const uint8_t*>(&header), sizeof(header)}, packet.frame}};
  size_t source = 0;
  for (size_t i = 0; i < buffer_count; ++i) {
    for (GuestRange range : chains_[i].writable) {
      while (range.size_bytes != 0 && source < sources.size()) {
        const size_t part = std::min<uint64_t>(range.size_bytes, sources[source].size());
        const bool written = memory_->Write(range.start, sources[source].first(part));
        CHECK(written, "a popped range at {} is not inside memory", range.start);
        range = {GuestAddress(range.start.raw() + part), range.size_bytes - part};
        sources[source] = sources[source].subspan(part);
        source += sources[source].empty() ? 1 : 0;
      }
    }
  }
}

std::vector<uint16_t> ReceiveRing::HeldHeads() const {
  std::vector<uint16_t> heads;
  for (size_t i = 0; i < held_; ++i) {
    heads.push_back(chains_[i].head);
  }
  return heads;
}

bool ReceiveRing::HoldAgain(std::span<const uint16_t> heads) {
  for (const uint16_t head : heads) {
    chains_.resize(std::max(chains_.size(), held_ + 1));
    if (queue_->ReadChain(head, chains_[held_]) != Virtqueue::PopResult::kChain) {
      Break(queue_->broken_rule(), queue_->broken_reason());
      return false;
    }
    if (!CheckBuffer(chains_[held_])) {
      return false;
    }
    ++held_;
  }
  return true;
}

}  // namespace pacsvisor
