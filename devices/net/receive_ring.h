// The receive queue (virtio 1.2, 5.1.6.3 and 5.1.6.4): received frames into the driver's buffers,
// one frame over several of them where VIRTIO_NET_F_MRG_RXBUF is negotiated.
//
// Buffers popped for a frame that needs more than there are stay with the ring, which asks to be
// notified of the next one.
// Threads: one at a time, under the device's queue lock.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "devices/net/network_backend.h"
#include "devices/virtio/virtqueue.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class ReceiveRing {
 public:
  enum class Outcome {
    kDelivered,
    kDropped,  // no buffers of the driver's can ever hold it
    kNoRoom,   // when the driver notifies: again
    kBroken,   // the driver broke the rules: broken_reason()
  };

  void Bind(GuestMemory& memory, Virtqueue& queue, bool merge_buffers);
  void Unbind();
  bool bound() const { return queue_ != nullptr; }

  // num_buffers of the header is filled in.
  Outcome Deliver(const NetPacket& packet);
  // After Deliver.
  bool ShouldInterrupt() { return queue_->ShouldInterrupt(); }

  // The buffers popped and not used, by head; the same after a restore. False: broken.
  std::vector<uint16_t> HeldHeads() const;
  [[nodiscard]] bool HoldAgain(std::span<const uint16_t> heads);

  const std::string& broken_reason() const { return broken_reason_; }
  GuestFault broken_rule() const { return broken_rule_; }

 private:
  Outcome Gather(uint64_t needed_bytes);
  Virtqueue::PopResult Hold();
  bool CheckBuffer(const DescriptorChain& chain);
  Outcome Break(GuestFault rule, std::string reason);
  uint64_t held_bytes() const;
  void Fill(const NetPacket& packet, size_t buffer_count);

  GuestMemory* memory_ = nullptr;
  Virtqueue* queue_ = nullptr;
  bool merge_buffers_ = false;
  bool notifications_on_ = false;
  std::string broken_reason_;
  GuestFault broken_rule_ = GuestFault::kBufferDirection;
  // The first held_ of them are popped; the others are kept for their vectors' memory.
  std::vector<DescriptorChain> chains_;
  size_t held_ = 0;
  std::vector<FinishedChain> finished_;
};

}  // namespace pacsvisor
