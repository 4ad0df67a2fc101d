#include "devices/block/block_request_parser.h"

#include <algorithm>
#include <optional>
#include <span>

#include "vmm/base/align.h"

namespace pacsvisor {
namespace {

using Action = ParsedBlockRequest::Action;

// Bytes [skip, skip + size_bytes) of the concatenated ranges, which hold them, appended to `to`.
void Slice(std::span<const GuestRange> ranges, uint64_t skip, uint64_t size_bytes,
           std::vector<GuestRange>& to) {
  for (const GuestRange& range : ranges) {
    const uint64_t skipped = std::min(skip, range.size_bytes);
    skip -= skipped;
    const uint64_t taken = std::min(size_bytes, range.size_bytes - skipped);
    size_bytes -= taken;
    if (taken > 0) {
      to.push_back({GuestAddress(range.start.raw() + skipped), taken});
    }
  }
}

// Copies bytes [skip, skip + to.size()) of the concatenated ranges, which hold them.
bool Gather(const GuestMemory& memory, std::span<const GuestRange> ranges, uint64_t skip,
            std::span<uint8_t> to) {
  for (const GuestRange& range : ranges) {
    const uint64_t skipped = std::min(skip, range.size_bytes);
    skip -= skipped;
    const uint64_t taken = std::min<uint64_t>(to.size(), range.size_bytes - skipped);
    if (!memory.Read(GuestAddress(range.start.raw() + skipped), to.first(taken))) {
      return false;
    }
    to = to.subspan(taken);
    if (to.empty()) {
      return true;
    }
  }
  return to.empty();
}

class Parser {
 public:
  Parser(const GuestMemory& memory, const DescriptorChain& chain, const BlockRequestLimits& limits,
         ParsedBlockRequest& request)
      : memory_(memory), chain_(chain), limits_(limits), request_(request) {}

  void Run() {
    request_.action = Action::kNeedsReset;
    request_.status = VirtioBlockStatus::kOk;
    request_.complaint = {};
    request_.segments.clear();
    request_.data.clear();
    request_.data_bytes = 0;
    VirtioBlockHeader header;
    if (!FindEnds(header)) {
      return;
    }
    switch (static_cast<VirtioBlockType>(header.type)) {
      case VirtioBlockType::kIn:
        return ParseData(header, BlockOperation::kRead);
      case VirtioBlockType::kOut:
        return ParseData(header, BlockOperation::kWrite);
      case VirtioBlockType::kFlush:
        request_.action = Action::kSubmit;
        request_.operation = BlockOperation::kFlush;
        return;
      case VirtioBlockType::kGetId:
        return ParseGetId();
      case VirtioBlockType::kDiscard:
        return ParseSegments(BlockOperation::kDiscard, limits_.discard);
      case VirtioBlockType::kWriteZeroes:
        return ParseSegments(BlockOperation::kWriteZeroes, limits_.write_zeroes);
    }
    Refuse(VirtioBlockStatus::kUnsupported, GuestFault::kBlockUnknownType,
           "request of an unknown type");
  }

 private:
  void Refuse(VirtioBlockStatus status, GuestFault fault, std::string_view complaint) {
    request_.action = Action::kAnswer;
    request_.status = status;
    request_.fault = fault;
    request_.complaint = complaint;
  }

  bool FindEnds(VirtioBlockHeader& header) {
    if (chain_.readable_bytes < sizeof(header)) {
      request_.fault = GuestFault::kBlockNoHeader;
      request_.complaint = "request without a whole header";
      return false;
    }
    if (chain_.writable_bytes == 0) {
      request_.fault = GuestFault::kBlockNoStatus;
      request_.complaint = "request without a status byte";
      return false;
    }
    const GuestRange& last = chain_.writable.back();
    request_.status_address = GuestAddress(last.start.raw() + last.size_bytes - 1);
    // A trivially copyable structure may be written as bytes.
    if (!Gather(memory_, chain_.readable, 0,
                {reinterpret_cast<uint8_t*>(&header), sizeof(header)})) {
      request_.fault = GuestFault::kBlockNoHeader;
      request_.complaint = "request header outside memory";
      return false;
    }
    return true;
  }

  // Whether [sector, sector + bytes) lies on the disk.
  std::optional<uint64_t> OffsetOnDisk(uint64_t sector, uint64_t size_bytes) const {
    const std::optional<uint64_t> offset = CheckedMultiply(sector, kSectorSizeBytes);
    if (!offset.has_value() || *offset > limits_.capacity_bytes ||
        size_bytes > limits_.capacity_bytes - *offset) {
      return std::nullopt;
    }
    return offset;
  }

  void ParseData(const VirtioBlockHeader& header, BlockOperation operation) {
    const bool read = operation == BlockOperation::kRead;
    const uint64_t size_bytes =
        read ? chain_.writable_bytes - 1 : chain_.readable_bytes - sizeof(header);
    // 5.2.6.2: a write to a read-only device fails with IOERR and writes nothing.
    if (!read && limits_.read_only) {
      return Refuse(VirtioBlockStatus::kIoError, GuestFault::kBlockReadOnly,
                    "write to a read-only disk");
    }
    if (!IsAligned(size_bytes, kSectorSizeBytes)) {
      return Refuse(VirtioBlockStatus::kIoError, GuestFault::kBlockPartialSector,
                    "data is not a whole number of sectors");
    }
    if (size_bytes > limits_.max_data_bytes) {
      return Refuse(VirtioBlockStatus::kIoError, GuestFault::kBlockTooMuchData,
                    "more data than a request may have (64 MiB)");
    }
    const std::optional<uint64_t> offset = OffsetOnDisk(header.sector, size_bytes);
    if (!offset.has_value()) {
      return Refuse(VirtioBlockStatus::kIoError, GuestFault::kBlockBeyondEnd,
                    "sectors behind the end of the disk");
    }
    request_.operation = operation;
    request_.action = size_bytes == 0 ? Action::kAnswer : Action::kSubmit;
    request_.data_bytes = size_bytes;
    request_.segments.push_back({.offset_bytes = *offset, .size_bytes = size_bytes});
    read ? Slice(chain_.writable, 0, size_bytes, request_.data)
         : Slice(chain_.readable, sizeof(header), size_bytes, request_.data);
  }

  void ParseGetId() {
    request_.action = Action::kGetId;
    request_.data_bytes = std::min<uint64_t>(chain_.writable_bytes - 1, kVirtioBlockIdBytes);
    Slice(chain_.writable, 0, request_.data_bytes, request_.data);
  }

  void ParseSegments(BlockOperation operation, bool negotiated) {
    if (limits_.read_only) {
      return Refuse(VirtioBlockStatus::kIoError, GuestFault::kBlockReadOnly,
                    "discard or write-zeroes on a read-only disk");
    }
    if (!negotiated) {
      return Refuse(VirtioBlockStatus::kUnsupported, GuestFault::kBlockNotNegotiated,
                    "discard or write-zeroes not negotiated");
    }
    const uint64_t size_bytes = chain_.readable_bytes - sizeof(VirtioBlockHeader);
    const uint64_t count = size_bytes / sizeof(VirtioBlockSegment);
    if (count == 0 || size_bytes % sizeof(VirtioBlockSegment) != 0 ||
        count > limits_.max_segments) {
      return Refuse(VirtioBlockStatus::kIoError, GuestFault::kBlockSegments,
                    "wrong number of discard or write-zeroes segments");
    }
    std::vector<VirtioBlockSegment> segments(count);
    // An array of trivially copyable structures may be written as bytes.
    if (!Gather(memory_, chain_.readable, sizeof(VirtioBlockHeader),
                {reinterpret_cast<uint8_t*>(segments.data()), size_bytes})) {
      return Refuse(VirtioBlockStatus::kIoError, GuestFault::kBlockSegments,
                    "segments outside memory");
    }
    request_.operation = operation;
    for (const VirtioBlockSegment& segment : segments) {
      if (!AddSegment(segment)) {
        return;
      }
    }
    request_.action = request_.segments.empty() ? Action::kAnswer : Action::kSubmit;
  }

  bool AddSegment(const VirtioBlockSegment& segment) {
    // 5.2.6.2: unknown flags, and unmap with discard, are unsupported.
    const uint32_t allowed =
        request_.operation == BlockOperation::kWriteZeroes ? kVirtioBlockSegmentUnmap : 0;
    if ((segment.flags & ~allowed) != 0) {
      Refuse(VirtioBlockStatus::kUnsupported, GuestFault::kBlockSegments,
             "segment with unknown flags");
      return false;
    }
    const uint64_t size_bytes = uint64_t{segment.sector_count} * kSectorSizeBytes;
    const std::optional<uint64_t> offset = OffsetOnDisk(segment.sector, size_bytes);
    if (segment.sector_count > limits_.max_segment_sectors || !offset.has_value()) {
      Refuse(VirtioBlockStatus::kIoError, GuestFault::kBlockSegments,
             "segment too long or behind the end of the disk");
      return false;
    }
    if (size_bytes > 0) {
      request_.segments.push_back({.offset_bytes = *offset,
                                   .size_bytes = size_bytes,
                                   .may_unmap = (segment.flags & kVirtioBlockSegmentUnmap) != 0});
    }
    return true;
  }

  const GuestMemory& memory_;
  const DescriptorChain& chain_;
  const BlockRequestLimits& limits_;
  ParsedBlockRequest& request_;
};

}  // namespace

void ParseBlockRequest(const GuestMemory& memory, const DescriptorChain& chain,
                       const BlockRequestLimits& limits, ParsedBlockRequest& request) {
  Parser(memory, chain, limits, request).Run();
}

}  // namespace pacsvisor
