// What a driver asks of the device for one frame it sends (virtio 1.2, 5.1.6.2), checked, and done
// in software where the back end cannot. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "devices/net/virtio_net_abi.h"

namespace pacsvisor {

enum class TransmitVerdict {
  kOk,
  kFrameSize,      // shorter than an Ethernet header or longer than kNetMaxFrameBytes
  kNotNegotiated,  // an offload whose feature is not negotiated
  kSegmentation,   // gso_type unknown, gso_size 0, or without NEEDS_CSUM
  kChecksum,       // the checksum field does not lie behind its start and inside the frame
  kNotTcp,         // software only: segmentation of what is not one whole TCP segment
};
std::string_view TransmitVerdictName(TransmitVerdict verdict);

// Checks `header` against the negotiated `features` and the frame's size, and clears what means
// nothing on this way: flags a driver must not set, a hdr_len that the frame does not have.
TransmitVerdict CheckTransmitHeader(VirtioNetHeader& header, uint64_t features,
                                    uint64_t frame_bytes);

// Writes the checksum that `header` (already checked) asks for: over everything from checksum_start
// on, the field itself holding the sum of the pseudo header (5.1.6.2). A sum of 0 is written as
// 0xffff, which for UDP differs from "no checksum" (RFC 768) and for TCP means the same.
void CompleteChecksum(const VirtioNetHeader& header, std::span<uint8_t> frame);

// For a peer that ends TCP itself and takes a segment of any size: makes a frame with segmentation
// asked for (kNetGsoTcp4) into one valid TCP segment as large as it is. Lengths and both checksums
// are computed anew, whatever the driver left in them.
TransmitVerdict CompleteLargeTcp4(std::span<uint8_t> frame);

}  // namespace pacsvisor
