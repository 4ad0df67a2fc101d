// A descriptor chain as a virtio-blk request (virtio 1.2, 5.2.6): copied out of guest memory once,
// checked whole, then used. The layout of header, data and status over descriptors is the driver's
// choice (2.7.4.1): the header is the first 16 readable bytes, the status the last writable one.
// Threads: one at a time (the device's worker).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "devices/block/block_abi.h"
#include "devices/virtio/virtqueue.h"
#include "vmm/disk/block_request.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

struct BlockRequestLimits {
  uint64_t capacity_bytes = 0;
  bool read_only = false;
  bool discard = false;       // negotiated
  bool write_zeroes = false;  // negotiated
  // Of one read or write: more than any driver makes of itself (Linux 1.25 MiB, Windows 2 MiB), and
  // little enough that neither a reset nor a rate limit waits long for the last one.
  uint64_t max_data_bytes = uint64_t{64} << 20;
  uint32_t max_segments = 32;
  uint32_t max_segment_sectors = 1u << 21;  // 1 GiB
};

struct ParsedBlockRequest {
  enum class Action : uint8_t {
    kSubmit,      // to the disk
    kAnswer,      // with `status`, at once
    kGetId,       // the serial number into `data`
    kNeedsReset,  // there is not even a place for the status
  };
  struct Segment {
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;
    bool may_unmap = false;
  };

  Action action = Action::kNeedsReset;
  VirtioBlockStatus status = VirtioBlockStatus::kOk;
  // Why a request is refused; empty when the driver did nothing wrong.
  std::string_view complaint;
  GuestFault fault = GuestFault::kBlockUnknownType;  // which rule, where there is a complaint
  GuestAddress status_address;
  BlockOperation operation = BlockOperation::kRead;
  std::vector<Segment> segments;  // kSubmit: none for flush, one for reads and writes
  std::vector<GuestRange> data;   // reads, writes, kGetId
  uint64_t data_bytes = 0;
};

// `request`'s vectors are reused.
void ParseBlockRequest(const GuestMemory& memory, const DescriptorChain& chain,
                       const BlockRequestLimits& limits, ParsedBlockRequest& request);

}  // namespace pacsvisor
