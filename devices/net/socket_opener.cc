#include "devices/net/socket_opener.h"

namespace pacsvisor {
namespace {

constexpr size_t kEthernetBytes = 14;
constexpr size_t kIp4Bytes = 20;
constexpr size_t kTcpFlags = 13;  // offset in its header (RFC 9293, 3.1)
constexpr uint8_t kTcp = 6;
constexpr uint8_t kSyn = 0x02;
constexpr uint8_t kAck = 0x10;

bool IsIp4(std::span<const uint8_t> frame) { return frame[12] == 0x08 && frame[13] == 0x00; }

}  // namespace

SocketNeed SocketNeedOf(std::span<const uint8_t> frame) {
  if (frame.size() < kEthernetBytes || !IsIp4(frame)) {
    return SocketNeed::kNone;
  }
  const std::span<const uint8_t> packet = frame.subspan(kEthernetBytes);
  if (packet.size() < kIp4Bytes) {
    return SocketNeed::kNone;  // nobody accepts it
  }
  // RFC 791, 3.1: all of flags and offset but "don't fragment".
  if ((packet[6] & 0xbf) != 0 || packet[7] != 0) {
    return SocketNeed::kFragment;
  }
  if (packet[9] != kTcp) {
    return SocketNeed::kDatagram;
  }
  const size_t header_bytes = size_t{4} * (packet[0] & 0xf);
  if (packet.size() <= header_bytes + kTcpFlags) {
    return SocketNeed::kStream;
  }
  return (packet[header_bytes + kTcpFlags] & (kSyn | kAck)) == kSyn ? SocketNeed::kStream
                                                                    : SocketNeed::kNone;
}

}  // namespace pacsvisor
