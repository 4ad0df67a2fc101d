// Frames of the tests: built byte by byte, and checksums by an oracle that shares nothing with
// devices/net.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "devices/net/virtio_net_abi.h"

namespace pacsvisor::net_test {

using Bytes = std::vector<uint8_t>;
using Ip4 = std::array<uint8_t, 4>;

inline constexpr MacAddress kGuestMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
inline constexpr MacAddress kBroadcastMac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
inline constexpr uint16_t kEtherIp4 = 0x0800;
inline constexpr uint16_t kEtherArp = 0x0806;
inline constexpr uint8_t kIcmp = 1;
inline constexpr uint8_t kTcp = 6;
inline constexpr uint8_t kUdp = 17;

inline Bytes ToBytes(std::string_view text) { return {text.begin(), text.end()}; }

// `count` bytes that differ from place to place and seed to seed.
inline Bytes Pattern(size_t count, uint32_t seed) {
  Bytes bytes(count);
  uint32_t state = seed * 2654435761u + 12345;
  for (uint8_t& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<uint8_t>(state >> 24);
  }
  return bytes;
}

inline void Put16(Bytes& bytes, uint32_t value) {
  bytes.push_back(static_cast<uint8_t>(value >> 8));
  bytes.push_back(static_cast<uint8_t>(value));
}
inline void Put32(Bytes& bytes, uint32_t value) {
  Put16(bytes, value >> 16);
  Put16(bytes, value & 0xffff);
}
template <typename Range>
void Put(Bytes& bytes, const Range& range) {
  bytes.insert(bytes.end(), range.begin(), range.end());
}
inline uint32_t Get16(std::span<const uint8_t> bytes, size_t at) {
  return static_cast<uint32_t>(bytes[at] << 8 | bytes[at + 1]);
}
inline uint32_t Get32(std::span<const uint8_t> bytes, size_t at) {
  return Get16(bytes, at) << 16 | Get16(bytes, at + 2);
}
inline void Set16(std::span<uint8_t> bytes, size_t at, uint32_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

// The sum of big-endian words, folded, not complemented: 0xffff over data with a right checksum.
inline uint16_t OracleSum(std::span<const uint8_t> bytes, uint64_t start = 0) {
  uint64_t sum = start;
  for (size_t i = 0; i < bytes.size(); ++i) {
    sum += i % 2 == 0 ? uint64_t{bytes[i]} * 256 : bytes[i];
  }
  while (sum >= 65536) {
    sum = sum / 65536 + sum % 65536;
  }
  return static_cast<uint16_t>(sum);
}

inline uint64_t PseudoHeaderSum(Ip4 from, Ip4 to, uint8_t protocol, size_t size) {
  Bytes pseudo;
  Put(pseudo, from);
  Put(pseudo, to);
  Put16(pseudo, protocol);
  Put16(pseudo, static_cast<uint32_t>(size));
  return OracleSum(pseudo);
}

// A view of an Ethernet frame with an IPv4 packet. Only for frames that IsIp4() accepted.
struct Ip4View {
  std::span<const uint8_t> frame;

  size_t header_bytes() const { return (frame[14] & 15u) * 4u; }
  uint8_t protocol() const { return frame[23]; }
  size_t total_bytes() const { return Get16(frame, 16); }
  Ip4 from() const { return {frame[26], frame[27], frame[28], frame[29]}; }
  Ip4 to() const { return {frame[30], frame[31], frame[32], frame[33]}; }
  std::span<const uint8_t> header() const { return frame.subspan(14, header_bytes()); }
  std::span<const uint8_t> payload() const {
    return frame.subspan(14 + header_bytes(), total_bytes() - header_bytes());
  }
  bool header_sum_right() const { return OracleSum(header()) == 0xffff; }
  bool payload_sum_right() const {
    const uint64_t start =
        protocol() == kIcmp ? 0 : PseudoHeaderSum(from(), to(), protocol(), payload().size());
    return OracleSum(payload(), start) == 0xffff;
  }
};

inline bool IsIp4(std::span<const uint8_t> frame) {
  if (frame.size() < 34 || Get16(frame, 12) != kEtherIp4 || frame[14] >> 4 != 4) {
    return false;
  }
  const Ip4View view{frame};
  return view.header_bytes() >= 20 && view.total_bytes() >= view.header_bytes() &&
         14 + view.total_bytes() <= frame.size();
}

inline Bytes EthernetFrame(MacAddress to, MacAddress from, uint16_t type, const Bytes& payload) {
  Bytes frame;
  Put(frame, to);
  Put(frame, from);
  Put16(frame, type);
  Put(frame, payload);
  return frame;
}

inline Bytes Ip4Packet(Ip4 from, Ip4 to, uint8_t protocol, const Bytes& payload) {
  Bytes packet = {0x45, 0};
  Put16(packet, static_cast<uint32_t>(20 + payload.size()));
  Put32(packet, 0x0001'4000);  // identification 1, don't fragment
  packet.push_back(64);
  packet.push_back(protocol);
  Put16(packet, 0);
  Put(packet, from);
  Put(packet, to);
  Set16(packet, 10, 0xffffu - OracleSum(packet));
  Put(packet, payload);
  return packet;
}

enum class Checksums {
  kComplete,
  kPseudoHeader,  // left to the device: only the pseudo header's sum is in the field
};

inline Bytes Udp4(Ip4 from, Ip4 to, uint16_t from_port, uint16_t to_port, const Bytes& data,
                  Checksums checksums = Checksums::kComplete) {
  Bytes udp;
  Put16(udp, from_port);
  Put16(udp, to_port);
  Put16(udp, static_cast<uint32_t>(8 + data.size()));
  Put16(udp, 0);
  Put(udp, data);
  const uint64_t pseudo = PseudoHeaderSum(from, to, kUdp, udp.size());
  const uint32_t sum = checksums == Checksums::kComplete ? 0xffffu - OracleSum(udp, pseudo)
                                                         : static_cast<uint32_t>(pseudo);
  Set16(udp, 6, checksums == Checksums::kComplete && sum == 0 ? 0xffff : sum);
  return Ip4Packet(from, to, kUdp, udp);
}

inline constexpr uint8_t kTcpFin = 1;
inline constexpr uint8_t kTcpSyn = 2;
inline constexpr uint8_t kTcpRst = 4;
inline constexpr uint8_t kTcpPsh = 8;
inline constexpr uint8_t kTcpAck = 16;

struct TcpFields {
  uint16_t from_port = 0;
  uint16_t to_port = 0;
  uint32_t sequence = 0;
  uint32_t acknowledged = 0;
  uint8_t flags = 0;
  uint16_t window = 65535;
};

inline Bytes Tcp4(Ip4 from, Ip4 to, const TcpFields& fields, const Bytes& data,
                  Checksums checksums = Checksums::kComplete) {
  Bytes tcp;
  Put16(tcp, fields.from_port);
  Put16(tcp, fields.to_port);
  Put32(tcp, fields.sequence);
  Put32(tcp, fields.acknowledged);
  tcp.push_back(0x50);
  tcp.push_back(fields.flags);
  Put16(tcp, fields.window);
  Put32(tcp, 0);
  Put(tcp, data);
  const uint64_t pseudo = PseudoHeaderSum(from, to, kTcp, tcp.size());
  Set16(tcp, 16,
        checksums == Checksums::kComplete ? 0xffffu - OracleSum(tcp, pseudo)
                                          : static_cast<uint32_t>(pseudo));
  return Ip4Packet(from, to, kTcp, tcp);
}

}  // namespace pacsvisor::net_test
