#include "devices/net/transmit_ring.h"

#include <algorithm>
#include <utility>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

// Shorter frames are copied: cheaper than describing where they lie. So are scattered ones, which
// the kernel might refuse (IOV_MAX).
constexpr uint64_t kCopyLimitBytes = 4096;
constexpr size_t kMaxInPlaceRanges = 128;

// Takes the first bytes of `ranges` into `to`, and them off. `ranges` hold at least so many.
void TakeBytes(const GuestMemory& memory, std::vector<GuestRange>& ranges, std::span<uint8_t> to) {
  size_t emptied = 0;
  while (!to.empty()) {
    GuestRange& range = ranges[emptied];
    const size_t part = std::min<uint64_t>(range.size_bytes, to.size());
    const bool read = memory.Read(range.start, to.first(part));
    CHECK(read, "a popped range at {} is not inside memory", range.start);
    range = {GuestAddress(range.start.raw() + part), range.size_bytes - part};
    emptied += range.size_bytes == 0 ? 1 : 0;
    to = to.subspan(part);
  }
  ranges.erase(ranges.begin(), ranges.begin() + static_cast<ptrdiff_t>(emptied));
}

}  // namespace

TransmitRing::TransmitRing() : copies_(std::make_unique_for_overwrite<uint8_t[]>(kCopyBytes)) {
  frames_.reserve(kMaxBatchFrames);
}

TransmitRing::Collected TransmitRing::Collect(GuestMemory& memory, Virtqueue& queue,
                                              uint64_t features, bool in_place,
                                              RateLimiter* limiter) {
  CHECK(empty());
  queue.DisableNotifications();
  while (frames_.size() < kMaxBatchFrames && kCopyBytes - copied_bytes_ >= kNetMaxFrameBytes) {
    if (limiter != nullptr && !limiter->Admit()) {
      break;
    }
    switch (queue.Pop(chain_)) {
      case Virtqueue::PopResult::kChain:
        if (!AddFrame(memory, features, in_place)) {
          return Collected::kBroken;
        }
        if (limiter != nullptr) {
          limiter->Charge(frames_.back().size_bytes(), 1);
        }
        break;
      case Virtqueue::PopResult::kBroken:
        broken_rule_ = queue.broken_rule();
        broken_reason_ = queue.broken_reason();
        return Collected::kBroken;
      case Virtqueue::PopResult::kEmpty:
        if (!empty()) {
          return Collected::kMore;  // while these are sent, the driver need not ring
        }
        if (!queue.EnableNotifications()) {
          return Collected::kAll;
        }
        queue.DisableNotifications();
        break;
    }
  }
  return Collected::kMore;
}

bool TransmitRing::AddFrame(GuestMemory& memory, uint64_t features, bool in_place) {
  if (!chain_.writable.empty()) {
    broken_rule_ = GuestFault::kBufferDirection;
    broken_reason_ = "buffer to send that the device may only write";
    return false;
  }
  if (chain_.readable_bytes < sizeof(VirtioNetHeader)) {
    broken_rule_ = GuestFault::kBufferTooShort;
    broken_reason_ =
        fmt::format("buffer to send of {} bytes, shorter than its header", chain_.readable_bytes);
    return false;
  }
  Frame& frame = frames_.emplace_back();
  frame.head = chain_.head;
  const uint64_t frame_bytes = chain_.readable_bytes - sizeof(VirtioNetHeader);
  // The header is an ABI structure without padding: any bytes are a value of it.
  TakeBytes(memory, chain_.readable,
            {reinterpret_cast<uint8_t*>(&frame.header), sizeof(frame.header)});
  frame.verdict = CheckTransmitHeader(frame.header, features, frame_bytes);
  if (frame.verdict == TransmitVerdict::kOk) {
    frame.copy.iov_len = frame_bytes;
    PlaceFrame(memory, frame, in_place);
  }
  return true;
}

void TransmitRing::PlaceFrame(GuestMemory& memory, Frame& frame, bool in_place) {
  const size_t frame_bytes = frame.copy.iov_len;
  if (in_place && frame_bytes > kCopyLimitBytes && chain_.readable.size() <= kMaxInPlaceRanges) {
    std::optional<GuestIoVector> vector =
        GuestIoVector::Create(memory, chain_.readable, IoDirection::kDeviceReads);
    CHECK(vector.has_value(), "popped ranges are not inside memory");
    frame.in_place.emplace(*std::move(vector));
    return;
  }
  frame.copy.iov_base = copies_.get() + copied_bytes_;
  TakeBytes(memory, chain_.readable, {copies_.get() + copied_bytes_, frame_bytes});
  copied_bytes_ += frame_bytes;
}

void TransmitRing::Finish(Virtqueue& queue) {
  finished_chains_.clear();
  for (; finished_ < sent_; ++finished_) {
    finished_chains_.push_back({.head = frames_[finished_].head, .written_bytes = 0});
  }
  if (!finished_chains_.empty()) {
    queue.PushTogether(finished_chains_);
  }
  if (finished_ == frames_.size()) {
    Clear();
  }
}

void TransmitRing::Clear() {
  frames_.clear();
  sent_ = 0;
  finished_ = 0;
  copied_bytes_ = 0;
}

std::vector<uint16_t> TransmitRing::HeadsInFlight() const {
  std::vector<uint16_t> heads;
  for (size_t i = finished_; i < frames_.size(); ++i) {
    heads.push_back(frames_[i].head);
  }
  return heads;
}

}  // namespace pacsvisor
