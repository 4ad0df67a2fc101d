#include "devices/net/packet_stage.h"

#include <cstring>

#include "vmm/base/check.h"

namespace pacsvisor {

PacketStage::PacketStage() : bytes_(std::make_unique_for_overwrite<uint8_t[]>(kCapacityBytes)) {
  packets_.reserve(kMaxPackets);
}

std::span<uint8_t> PacketStage::Reserve(size_t size_bytes) {
  if (Full(size_bytes) && first_ != 0) {
    Compact();
  }
  if (Full(size_bytes)) {
    return {};
  }
  return {bytes_.get() + used_bytes_, size_bytes};
}

void PacketStage::Commit(size_t size_bytes, const VirtioNetHeader& header) {
  CHECK(packets_.size() < kMaxPackets && size_bytes <= kCapacityBytes - used_bytes_);
  packets_.push_back({header, {bytes_.get() + used_bytes_, size_bytes}});
  used_bytes_ += size_bytes;
}

void PacketStage::Compact() {
  packets_.erase(packets_.begin(), packets_.begin() + static_cast<ptrdiff_t>(first_));
  first_ = 0;
  used_bytes_ = 0;
  for (NetPacket& packet : packets_) {
    uint8_t* to = bytes_.get() + used_bytes_;
    std::memmove(to, packet.frame.data(), packet.frame.size());
    packet.frame = {to, packet.frame.size()};
    used_bytes_ += packet.frame.size();
  }
}

void PacketStage::Take(size_t count) {
  CHECK(count <= packets_.size() - first_, "{} of {} packets", count, packets_.size() - first_);
  first_ += count;
  if (empty()) {
    packets_.clear();
    first_ = 0;
    used_bytes_ = 0;
  }
}

}  // namespace pacsvisor
