// Frames on their way to the guest, in private memory of bounded size. Filled in order, emptied in
// order; its room is there again when all are taken. Pages are touched only as far as they were
// ever needed. Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "devices/net/network_backend.h"

namespace pacsvisor {

class PacketStage {
 public:
  static constexpr size_t kCapacityBytes = 256 * 1024;
  static constexpr size_t kMaxPackets = 256;
  static_assert(kCapacityBytes >= kNetMaxFrameBytes);

  PacketStage();

  // Room for one frame of `size_bytes`, to be filled before Commit; empty when there is none.
  std::span<uint8_t> Reserve(size_t size_bytes);
  // The first `size_bytes` of what was reserved last are a frame.
  void Commit(size_t size_bytes, const VirtioNetHeader& header);

  std::span<NetPacket> packets() { return std::span(packets_).subspan(first_); }
  void Take(size_t count);  // the first so many are done with
  bool empty() const { return first_ == packets_.size(); }

 private:
  bool Full(size_t size_bytes) const {
    return packets_.size() == kMaxPackets || size_bytes > kCapacityBytes - used_bytes_;
  }
  // Moves what is there to the front.
  void Compact();

  std::unique_ptr<uint8_t[]> bytes_;
  size_t used_bytes_ = 0;
  std::vector<NetPacket> packets_;
  size_t first_ = 0;
};

}  // namespace pacsvisor
