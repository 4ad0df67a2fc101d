// As much of a network stack as the tests need on the guest's side of a card: ARP both ways, ICMP
// echo, UDP, and TCP connections that somebody else opens. It checks every checksum that the device
// says is complete. Nothing is sent again: the ways under test lose nothing.
// Threads: the test's.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "tests/unit/devices/net/guest_card.h"

namespace pacsvisor::net_test {

struct Datagram {
  Ip4 from;
  Ip4 to;
  uint16_t from_port;
  uint16_t to_port;
  Bytes data;
};

struct Segment {
  Ip4 from;
  TcpFields fields;
  Bytes data;
};

class GuestStack {
 public:
  GuestStack(GuestCard& card, MacAddress mac, Ip4 address)
      : card_(card), mac_(mac), address_(address) {}

  Ip4 address() const { return address_; }
  size_t largest_frame_received() const { return largest_frame_; }
  GuestCard& card() { return card_; }

  // Handles frames until `done` or the limit, however many come. False: the limit.
  [[nodiscard]] bool Until(const std::function<bool()>& done,
                           std::chrono::milliseconds limit = kTestDeadline) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      const std::optional<ReceivedFrame> frame =
          left.count() > 0 ? card_.Receive(left) : std::nullopt;
      if (!frame.has_value()) {
        return done();
      }
      Handle(*frame);
    }
    return true;
  }

  std::optional<MacAddress> Resolve(Ip4 address) {
    SendArp(1, kBroadcastMac, {}, address);
    if (!Until([&] { return neighbours_.contains(address); })) {
      return std::nullopt;
    }
    return neighbours_.at(address);
  }

  void SendIp(const Bytes& packet, const VirtioNetHeader& header = {}) {
    const Ip4 to = {packet[16], packet[17], packet[18], packet[19]};
    const bool broadcast = to == Ip4{255, 255, 255, 255};
    const MacAddress mac = broadcast ? kBroadcastMac : neighbours_.at(to);
    ASSERT_TRUE(card_.Send(header, EthernetFrame(mac, mac_, kEtherIp4, packet)));
  }

  // The echo reply's data; none when it does not come within `limit`.
  std::optional<Bytes> Ping(Ip4 to, const Bytes& data,
                            std::chrono::milliseconds limit = kTestDeadline) {
    Bytes icmp = {8, 0};
    Put16(icmp, 0);
    Put32(icmp, 0x0007'0001);
    Put(icmp, data);
    Set16(icmp, 2, 0xffffu - OracleSum(icmp));
    SendIp(Ip4Packet(address_, to, kIcmp, icmp));
    if (!Until([&] { return !echo_replies_.empty(); }, limit)) {
      return std::nullopt;
    }
    return TakeFront(echo_replies_);
  }

  std::optional<Datagram> AwaitUdp() {
    if (!Until([&] { return !datagrams_.empty(); })) {
      return std::nullopt;
    }
    return TakeFront(datagrams_);
  }
  std::optional<Segment> AwaitTcp() {
    if (!Until([&] { return !segments_.empty(); })) {
      return std::nullopt;
    }
    return TakeFront(segments_);
  }

 private:
  template <typename T>
  static T TakeFront(std::deque<T>& queue) {
    T front = std::move(queue.front());
    queue.pop_front();
    return front;
  }

  void SendArp(uint16_t operation, MacAddress to, MacAddress target_mac, Ip4 target) {
    Bytes arp = {0, 1, 8, 0, 6, 4};
    Put16(arp, operation);
    Put(arp, mac_);
    Put(arp, address_);
    Put(arp, target_mac);
    Put(arp, target);
    ASSERT_TRUE(card_.Send(EthernetFrame(to, mac_, kEtherArp, arp)));
  }

  void Handle(const ReceivedFrame& frame) {
    const Bytes& bytes = frame.bytes;
    largest_frame_ = std::max(largest_frame_, bytes.size());
    if (bytes.size() >= 42 && Get16(bytes, 12) == kEtherArp) {
      HandleArp(bytes);
    } else if (IsIp4(bytes)) {
      HandleIp(frame.header, Ip4View{bytes});
    }
  }

  void HandleArp(const Bytes& frame) {
    MacAddress sender_mac;
    std::copy_n(&frame[22], 6, sender_mac.begin());
    const Ip4 sender = {frame[28], frame[29], frame[30], frame[31]};
    const Ip4 target = {frame[38], frame[39], frame[40], frame[41]};
    neighbours_[sender] = sender_mac;
    if (Get16(frame, 20) == 1 && target == address_) {
      SendArp(2, sender_mac, sender_mac, sender);
    }
  }

  void HandleIp(const VirtioNetHeader& header, const Ip4View& view) {
    EXPECT_TRUE(view.header_sum_right());
    if ((header.flags & kNetHeaderNeedsChecksum) != 0) {
      // The field holds the pseudo header's sum (5.1.6.4.1).
      const size_t field = size_t{header.checksum_start} + header.checksum_offset;
      EXPECT_EQ(Get16(view.frame, field),
                PseudoHeaderSum(view.from(), view.to(), view.protocol(), view.payload().size()));
    } else if (view.protocol() != kUdp || Get16(view.payload(), 6) != 0) {
      EXPECT_TRUE(view.payload_sum_right());
    }
    const std::span<const uint8_t> data = view.payload();
    if (view.protocol() == kUdp && data.size() >= 8) {
      datagrams_.push_back({view.from(), view.to(), static_cast<uint16_t>(Get16(data, 0)),
                            static_cast<uint16_t>(Get16(data, 2)),
                            Bytes(data.begin() + 8, data.end())});
    } else if (view.protocol() == kTcp && data.size() >= 20) {
      HandleTcp(view.from(), data);
    } else if (view.protocol() == kIcmp && data.size() >= 8) {
      HandleIcmp(view, data);
    }
  }

  void HandleTcp(Ip4 from, std::span<const uint8_t> tcp) {
    const size_t header = (tcp[12] >> 4) * 4u;
    segments_.push_back({from,
                         {.from_port = static_cast<uint16_t>(Get16(tcp, 0)),
                          .to_port = static_cast<uint16_t>(Get16(tcp, 2)),
                          .sequence = Get32(tcp, 4),
                          .acknowledged = Get32(tcp, 8),
                          .flags = tcp[13],
                          .window = static_cast<uint16_t>(Get16(tcp, 14))},
                         Bytes(tcp.begin() + static_cast<ptrdiff_t>(header), tcp.end())});
  }

  void HandleIcmp(const Ip4View& view, std::span<const uint8_t> icmp) {
    if (icmp[0] == 0) {
      echo_replies_.emplace_back(icmp.begin() + 8, icmp.end());
    } else if (icmp[0] == 8) {
      Bytes reply(icmp.begin(), icmp.end());
      reply[0] = 0;
      Set16(reply, 2, 0);
      Set16(reply, 2, 0xffffu - OracleSum(reply));
      SendIp(Ip4Packet(address_, view.from(), kIcmp, reply));
    }
  }

  GuestCard& card_;
  const MacAddress mac_;
  const Ip4 address_;
  size_t largest_frame_ = 0;
  std::map<Ip4, MacAddress> neighbours_;
  std::deque<Bytes> echo_replies_;
  std::deque<Datagram> datagrams_;
  std::deque<Segment> segments_;
};

// A TCP connection that the other side opens to `port`, from its SYN to its end.
class GuestTcp {
 public:
  GuestTcp(GuestStack& stack, uint16_t port) : stack_(stack), port_(port) {}

  [[nodiscard]] bool Accept() {
    while (true) {
      const std::optional<Segment> syn = stack_.AwaitTcp();
      if (!syn.has_value()) {
        return false;
      }
      if (syn->fields.to_port == port_ && (syn->fields.flags & kTcpSyn) != 0) {
        peer_ = syn->from;
        peer_port_ = syn->fields.from_port;
        expected_ = syn->fields.sequence + 1;
        break;
      }
    }
    Emit(kTcpSyn | kTcpAck, {}, {});
    ++sequence_;
    return Step([&] { return acknowledged_ == sequence_; });
  }

  // Sends `data` in segments of at most `segment_bytes`, as far as the peer's window allows.
  // `offload` is what each segment's header asks of the device.
  [[nodiscard]] bool Send(const Bytes& data, size_t segment_bytes, Checksums checksums,
                          const VirtioNetHeader& offload = {}) {
    for (size_t at = 0; at < data.size();) {
      if (!Step([&] { return sequence_ - acknowledged_ < window_; })) {
        return false;
      }
      const size_t room = window_ - (sequence_ - acknowledged_);
      const size_t size = std::min({segment_bytes, data.size() - at, room});
      const auto first = data.begin() + static_cast<ptrdiff_t>(at);
      checksums_ = checksums;
      Emit(kTcpAck | kTcpPsh, Bytes(first, first + static_cast<ptrdiff_t>(size)), offload);
      checksums_ = Checksums::kComplete;
      sequence_ += static_cast<uint32_t>(size);
      at += size;
    }
    return Step([&] { return acknowledged_ == sequence_; });
  }

  // So many bytes of the peer's.
  std::optional<Bytes> Receive(size_t count) {
    if (!Step([&] { return received_.size() >= count; })) {
      return std::nullopt;
    }
    const auto end = received_.begin() + static_cast<ptrdiff_t>(count);
    Bytes data(received_.begin(), end);
    received_.erase(received_.begin(), end);
    return data;
  }

  [[nodiscard]] bool Close() {
    Emit(kTcpFin | kTcpAck, {}, {});
    ++sequence_;
    return Step([&] { return acknowledged_ == sequence_ && peer_closed_; });
  }

 private:
  [[nodiscard]] bool Step(const std::function<bool()>& done) {
    while (!done()) {
      const std::optional<Segment> segment = stack_.AwaitTcp();
      if (!segment.has_value()) {
        return false;
      }
      Handle(*segment);
    }
    return true;
  }

  void Handle(const Segment& segment) {
    const TcpFields& fields = segment.fields;
    if (fields.to_port != port_ || fields.from_port != peer_port_) {
      return;
    }
    EXPECT_EQ(fields.flags & kTcpRst, 0) << "the peer reset the connection";
    acknowledged_ = fields.acknowledged;
    window_ = fields.window;
    const bool in_order = fields.sequence == expected_;
    if (in_order && !segment.data.empty()) {
      Put(received_, segment.data);
      expected_ += static_cast<uint32_t>(segment.data.size());
    }
    if (in_order && (fields.flags & kTcpFin) != 0) {
      ++expected_;
      peer_closed_ = true;
    }
    if (!segment.data.empty() || (fields.flags & kTcpFin) != 0) {
      Emit(kTcpAck, {}, {});
    }
  }

  void Emit(uint8_t flags, const Bytes& data, const VirtioNetHeader& offload) {
    stack_.SendIp(Tcp4(stack_.address(), peer_,
                       {.from_port = port_,
                        .to_port = peer_port_,
                        .sequence = sequence_,
                        .acknowledged = expected_,
                        .flags = flags},
                       data, checksums_),
                  offload);
  }

  GuestStack& stack_;
  const uint16_t port_;
  Ip4 peer_{};
  uint16_t peer_port_ = 0;
  uint32_t sequence_ = 0xffff'f000;  // wraps early
  uint32_t acknowledged_ = 0;
  uint32_t window_ = 0;
  uint32_t expected_ = 0;
  bool peer_closed_ = false;
  Checksums checksums_ = Checksums::kComplete;
  Bytes received_;
};

// What a frame's header says when its TCP checksum, and its segmentation, are left to the device.
inline VirtioNetHeader TcpOffload(uint16_t segment_bytes) {
  return {.flags = kNetHeaderNeedsChecksum,
          .gso_type = segment_bytes == 0 ? kNetGsoNone : kNetGsoTcp4,
          .header_bytes = 14 + 20 + 20,
          .segment_bytes = segment_bytes,
          .checksum_start = 14 + 20,
          .checksum_offset = 16};
}

}  // namespace pacsvisor::net_test
