// The transmit queue (virtio 1.2, 5.1.6.2): frames of the driver's, taken in batches under the
// queue lock, sent without it, finished under it again.
//
// Threads: the loop's. Collect, Finish, Clear and HeadsInFlight need the device's queue lock as
// well, so that another thread that holds it may call HeadsInFlight.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/net/network_backend.h"
#include "devices/net/transmit_header.h"
#include "devices/virtio/virtqueue.h"
#include "vmm/base/rate_limiter.h"
#include "vmm/memory/guest_io_vector.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class TransmitRing {
 public:
  static constexpr size_t kMaxBatchFrames = 64;
  static constexpr size_t kCopyBytes = 256 * 1024;

  struct Frame {
    uint16_t head = 0;
    TransmitVerdict verdict = TransmitVerdict::kOk;  // else it is only finished, not sent
    VirtioNetHeader header;
    std::optional<GuestIoVector> in_place;
    iovec copy{};

    std::span<const iovec> parts() const {
      return in_place.has_value() ? in_place->iovecs() : std::span(&copy, 1);
    }
    uint64_t size_bytes() const {
      return in_place.has_value() ? in_place->size_bytes() : copy.iov_len;
    }
  };

  enum class Collected {
    kAll,     // nothing was taken: the queue is empty, and will notify
    kMore,    // a batch, none by the limiter; ask again once it is sent, the queue will not notify
    kBroken,  // the driver broke the rules: broken_reason()
  };

  TransmitRing();

  // Takes a batch of frames; there must be none left of the last. `in_place`: the back end gathers.
  // `limiter` (may be null) is asked before each and charged with it; when it admits no more, what
  // was taken so far is the batch, and its timer says when to ask again.
  Collected Collect(GuestMemory& memory, Virtqueue& queue, uint64_t features, bool in_place,
                    RateLimiter* limiter = nullptr);
  // The frames not sent yet, in order; Advance past those that were.
  std::span<const Frame> unsent() const { return std::span(frames_).subspan(sent_); }
  void Advance(size_t count) { sent_ += count; }
  // Gives the frames sent back to the driver.
  void Finish(Virtqueue& queue);
  bool empty() const { return frames_.empty(); }
  // Forgets everything: the queue was reset.
  void Clear();
  // Frames taken and not given back.
  std::vector<uint16_t> HeadsInFlight() const;

  const std::string& broken_reason() const { return broken_reason_; }
  GuestFault broken_rule() const { return broken_rule_; }

 private:
  // False: the driver broke the rules.
  bool AddFrame(GuestMemory& memory, uint64_t features, bool in_place);
  void PlaceFrame(GuestMemory& memory, Frame& frame, bool in_place);

  std::vector<Frame> frames_;
  size_t sent_ = 0;
  size_t finished_ = 0;
  std::unique_ptr<uint8_t[]> copies_;
  size_t copied_bytes_ = 0;
  DescriptorChain chain_;
  std::vector<FinishedChain> finished_chains_;
  std::string broken_reason_;
  GuestFault broken_rule_ = GuestFault::kBufferDirection;
};

}  // namespace pacsvisor
