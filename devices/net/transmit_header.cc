#include "devices/net/transmit_header.h"

#include "devices/net/internet_checksum.h"

namespace pacsvisor {
namespace {

constexpr size_t kEthernetBytes = 14;
constexpr uint16_t kEtherTypeIp4 = 0x0800;
constexpr uint8_t kProtocolTcp = 6;
constexpr size_t kMaxIp4Bytes = 65535;

// RFC 791, section 3.1: offsets in the IPv4 header.
constexpr size_t kIp4TotalLength = 2;
constexpr size_t kIp4Fragment = 6;
constexpr size_t kIp4Protocol = 9;
constexpr size_t kIp4Checksum = 10;
constexpr size_t kIp4Addresses = 12;
constexpr size_t kIp4MinBytes = 20;
constexpr uint16_t kIp4MoreFragmentsOrOffset = 0x3fff;
// RFC 9293, section 3.1: offsets in the TCP header.
constexpr size_t kTcpDataOffset = 12;
constexpr size_t kTcpChecksum = 16;
constexpr size_t kTcpMinBytes = 20;

uint64_t SegmentationFeature(uint8_t gso_type) {
  switch (gso_type) {
    case kNetGsoTcp4:
      return kNetFeatureHostTso4;
    case kNetGsoTcp6:
      return kNetFeatureHostTso6;
    default:
      return 0;
  }
}

TransmitVerdict CheckSegmentation(const VirtioNetHeader& header, uint64_t features) {
  if (header.gso_type == kNetGsoNone) {
    return TransmitVerdict::kOk;
  }
  const uint64_t feature = SegmentationFeature(header.gso_type & ~kNetGsoEcn);
  // 5.1.6.2.1: a gso_type comes with a gso_size and with NEEDS_CSUM.
  if (feature == 0 || header.segment_bytes == 0 || (header.flags & kNetHeaderNeedsChecksum) == 0) {
    return TransmitVerdict::kSegmentation;
  }
  const bool ecn = (header.gso_type & kNetGsoEcn) != 0;
  if ((features & feature) == 0 || (ecn && (features & kNetFeatureHostEcn) == 0)) {
    return TransmitVerdict::kNotNegotiated;
  }
  return TransmitVerdict::kOk;
}

TransmitVerdict CheckChecksum(const VirtioNetHeader& header, uint64_t features,
                              uint64_t frame_bytes) {
  if ((header.flags & kNetHeaderNeedsChecksum) == 0) {
    return TransmitVerdict::kOk;
  }
  if ((features & kNetFeatureChecksum) == 0) {
    return TransmitVerdict::kNotNegotiated;
  }
  const uint64_t field = uint64_t{header.checksum_start} + header.checksum_offset;
  return field + 2 <= frame_bytes ? TransmitVerdict::kOk : TransmitVerdict::kChecksum;
}

}  // namespace

std::string_view TransmitVerdictName(TransmitVerdict verdict) {
  switch (verdict) {
    case TransmitVerdict::kOk:
      return "nothing wrong";
    case TransmitVerdict::kFrameSize:
      return "impossible frame size";
    case TransmitVerdict::kNotNegotiated:
      return "an offload that was not negotiated";
    case TransmitVerdict::kSegmentation:
      return "impossible segmentation";
    case TransmitVerdict::kChecksum:
      return "a checksum outside the frame";
    case TransmitVerdict::kNotTcp:
      return "segmentation of what is not TCP";
  }
  return "unknown";
}

TransmitVerdict CheckTransmitHeader(VirtioNetHeader& header, uint64_t features,
                                    uint64_t frame_bytes) {
  if (frame_bytes < kNetMinFrameBytes || frame_bytes > kNetMaxFrameBytes) {
    return TransmitVerdict::kFrameSize;
  }
  header.flags &= kNetHeaderNeedsChecksum;
  header.buffer_count = 0;
  if (header.header_bytes > frame_bytes) {
    header.header_bytes = 0;
  }
  if (const TransmitVerdict verdict = CheckSegmentation(header, features);
      verdict != TransmitVerdict::kOk) {
    return verdict;
  }
  return CheckChecksum(header, features, frame_bytes);
}

void CompleteChecksum(const VirtioNetHeader& header, std::span<uint8_t> frame) {
  if ((header.flags & kNetHeaderNeedsChecksum) == 0) {
    return;
  }
  InternetChecksum sum;
  sum.Add(frame.subspan(header.checksum_start));
  const uint16_t value = sum.Finish();
  StoreBe16(frame.data() + header.checksum_start + header.checksum_offset,
            value == 0 ? uint16_t{0xffff} : value);
}

TransmitVerdict CompleteLargeTcp4(std::span<uint8_t> frame) {
  if (frame.size() < kEthernetBytes + kIp4MinBytes + kTcpMinBytes ||
      LoadBe16(frame.data() + kEthernetBytes - 2) != kEtherTypeIp4) {
    return TransmitVerdict::kNotTcp;
  }
  const std::span<uint8_t> packet = frame.subspan(kEthernetBytes);
  const size_t ip_bytes = (packet[0] & 0xfu) * 4u;
  if (packet[0] >> 4 != 4 || ip_bytes < kIp4MinBytes || packet.size() > kMaxIp4Bytes ||
      packet.size() < ip_bytes + kTcpMinBytes || packet[kIp4Protocol] != kProtocolTcp ||
      (LoadBe16(&packet[kIp4Fragment]) & kIp4MoreFragmentsOrOffset) != 0) {
    return TransmitVerdict::kNotTcp;
  }
  const std::span<uint8_t> segment = packet.subspan(ip_bytes);
  const size_t tcp_bytes = (segment[kTcpDataOffset] >> 4) * 4u;
  if (tcp_bytes < kTcpMinBytes || tcp_bytes > segment.size()) {
    return TransmitVerdict::kNotTcp;
  }

  StoreBe16(&packet[kIp4TotalLength], static_cast<uint16_t>(packet.size()));
  StoreBe16(&packet[kIp4Checksum], 0);
  InternetChecksum header_sum;
  header_sum.Add(packet.first(ip_bytes));
  StoreBe16(&packet[kIp4Checksum], header_sum.Finish());

  StoreBe16(&segment[kTcpChecksum], 0);
  InternetChecksum sum;  // RFC 9293, section 3.1: pseudo header, then the segment
  sum.Add(packet.subspan(kIp4Addresses, 8));
  sum.AddWord(kProtocolTcp);
  sum.AddWord(static_cast<uint16_t>(segment.size()));
  sum.Add(segment);
  StoreBe16(&segment[kTcpChecksum], sum.Finish());
  return TransmitVerdict::kOk;
}

}  // namespace pacsvisor
