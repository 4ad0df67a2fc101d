#include "vmm/disk/block_request.h"

#include "vmm/base/align.h"
#include "vmm/dirty/dirty_bitmap.h"

namespace pacsvisor {

std::string_view BlockOperationName(BlockOperation operation) {
  switch (operation) {
    case BlockOperation::kRead:
      return "read";
    case BlockOperation::kWrite:
      return "write";
    case BlockOperation::kFlush:
      return "flush";
    case BlockOperation::kDiscard:
      return "discard";
    case BlockOperation::kWriteZeroes:
      return "write-zeroes";
  }
  return "unknown";
}

void MarkChanged(const BlockRequest& request, uint32_t block_bytes, DirtyBitmap& dirty) {
  if (ChangesDisk(request.operation)) {
    const uint64_t first = request.offset_bytes / block_bytes;
    const uint64_t end =
        DivideRoundUp<uint64_t>(request.offset_bytes + request.size_bytes, block_bytes);
    dirty.MarkRange(BlockIndex(first), end - first);
  }
}

Error FailureOf(const BlockRequest& request, int error_number) {
  return Error::FromErrno(error_number, "{} of {} bytes at byte {}",
                          BlockOperationName(request.operation), request.size_bytes,
                          request.offset_bytes);
}

}  // namespace pacsvisor
