// virtio-net as it lies in guest memory and configuration space (virtio 1.2, section 5.1). Little
// endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace pacsvisor {

using MacAddress = std::array<uint8_t, 6>;

// 5.1.3: feature bits.
inline constexpr uint64_t kNetFeatureChecksum = uint64_t{1} << 0;         // VIRTIO_NET_F_CSUM
inline constexpr uint64_t kNetFeatureGuestChecksum = uint64_t{1} << 1;    // GUEST_CSUM
inline constexpr uint64_t kNetFeatureMtu = uint64_t{1} << 3;              // MTU
inline constexpr uint64_t kNetFeatureMac = uint64_t{1} << 5;              // MAC
inline constexpr uint64_t kNetFeatureGuestTso4 = uint64_t{1} << 7;        // GUEST_TSO4
inline constexpr uint64_t kNetFeatureGuestTso6 = uint64_t{1} << 8;        // GUEST_TSO6
inline constexpr uint64_t kNetFeatureGuestEcn = uint64_t{1} << 9;         // GUEST_ECN
inline constexpr uint64_t kNetFeatureHostTso4 = uint64_t{1} << 11;        // HOST_TSO4
inline constexpr uint64_t kNetFeatureHostTso6 = uint64_t{1} << 12;        // HOST_TSO6
inline constexpr uint64_t kNetFeatureHostEcn = uint64_t{1} << 13;         // HOST_ECN
inline constexpr uint64_t kNetFeatureMergeBuffers = uint64_t{1} << 15;    // MRG_RXBUF
inline constexpr uint64_t kNetFeatureStatus = uint64_t{1} << 16;          // STATUS
inline constexpr uint64_t kNetFeatureControlQueue = uint64_t{1} << 17;    // CTRL_VQ
inline constexpr uint64_t kNetFeatureControlRx = uint64_t{1} << 18;       // CTRL_RX
inline constexpr uint64_t kNetFeatureControlRxExtra = uint64_t{1} << 20;  // CTRL_RX_EXTRA
inline constexpr uint64_t kNetFeatureGuestAnnounce = uint64_t{1} << 21;   // GUEST_ANNOUNCE
inline constexpr uint64_t kNetFeatureControlMac = uint64_t{1} << 23;      // CTRL_MAC_ADDR

// 5.1.4: configuration space.
struct VirtioNetConfigSpace {
  MacAddress mac = {};
  uint16_t status = 0;
  uint16_t max_queue_pairs = 1;  // VIRTIO_NET_F_MQ is not offered: one pair
  uint16_t mtu = 0;
};
static_assert(sizeof(VirtioNetConfigSpace) == 12);
static_assert(offsetof(VirtioNetConfigSpace, status) == 6);
static_assert(offsetof(VirtioNetConfigSpace, max_queue_pairs) == 8);
static_assert(offsetof(VirtioNetConfigSpace, mtu) == 10);

inline constexpr uint16_t kNetStatusLinkUp = 1;    // VIRTIO_NET_S_LINK_UP
inline constexpr uint16_t kNetStatusAnnounce = 2;  // VIRTIO_NET_S_ANNOUNCE

// 5.1.2: queues of a device with one pair.
inline constexpr uint16_t kNetReceiveQueue = 0;
inline constexpr uint16_t kNetTransmitQueue = 1;
inline constexpr uint16_t kNetControlQueue = 2;

// 5.1.6: precedes each packet on either queue. The same bytes as the kernel's virtio_net_hdr_v1,
// which a TAP with a 12-byte header exchanges.
struct VirtioNetHeader {
  uint8_t flags = 0;
  uint8_t gso_type = 0;
  uint16_t header_bytes = 0;   // hdr_len: a hint, never relied on (5.1.6.2.2)
  uint16_t segment_bytes = 0;  // gso_size
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;  // from checksum_start
  uint16_t buffer_count = 0;     // num_buffers
};
static_assert(sizeof(VirtioNetHeader) == 12);
static_assert(offsetof(VirtioNetHeader, header_bytes) == 2);
static_assert(offsetof(VirtioNetHeader, segment_bytes) == 4);
static_assert(offsetof(VirtioNetHeader, checksum_start) == 6);
static_assert(offsetof(VirtioNetHeader, checksum_offset) == 8);
static_assert(offsetof(VirtioNetHeader, buffer_count) == 10);

inline constexpr uint8_t kNetHeaderNeedsChecksum = 1;  // VIRTIO_NET_HDR_F_NEEDS_CSUM
inline constexpr uint8_t kNetHeaderDataValid = 2;      // VIRTIO_NET_HDR_F_DATA_VALID
inline constexpr uint8_t kNetGsoNone = 0;              // VIRTIO_NET_HDR_GSO_*
inline constexpr uint8_t kNetGsoTcp4 = 1;
inline constexpr uint8_t kNetGsoTcp6 = 4;
inline constexpr uint8_t kNetGsoEcn = 0x80;

// A frame without its header: 14 bytes of Ethernet, 4 of a VLAN tag, and an IP packet of at most 64
// KiB (5.1.6.3.1 asks drivers for receive buffers of 65,550 bytes, untagged).
inline constexpr size_t kNetMinFrameBytes = 14;
inline constexpr size_t kNetMaxFrameBytes = 14 + 4 + 65536;

// 5.1.6.5: control queue.
inline constexpr uint8_t kNetControlOk = 0;
inline constexpr uint8_t kNetControlError = 1;
inline constexpr uint8_t kNetControlRxClass = 0;
inline constexpr uint8_t kNetControlMacClass = 1;
inline constexpr uint8_t kNetControlAnnounceClass = 3;
inline constexpr uint8_t kNetControlRxPromiscuous = 0;
inline constexpr uint8_t kNetControlRxAllMulticast = 1;
inline constexpr uint8_t kNetControlRxAllUnicast = 2;
inline constexpr uint8_t kNetControlRxNoMulticast = 3;
inline constexpr uint8_t kNetControlRxNoUnicast = 4;
inline constexpr uint8_t kNetControlRxNoBroadcast = 5;
inline constexpr uint8_t kNetControlMacTableSet = 0;
inline constexpr uint8_t kNetControlMacAddressSet = 1;
inline constexpr uint8_t kNetControlAnnounceAck = 0;

}  // namespace pacsvisor
