// One request to a disk, as devices/block hands it to a BlockBackend: owned by the submitter, which
// leaves it (and the buffers behind `iovecs`) alone from Submit until TakeCompletions returns it.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string_view>

#include "vmm/base/result.h"

namespace pacsvisor {

class DirtyBitmap;

inline constexpr uint64_t kSectorSizeBytes = 512;

enum class BlockOperation : uint8_t {
  kRead,
  kWrite,
  kFlush,        // every write completed before it was submitted becomes durable
  kDiscard,      // a hint: the range may read as anything afterwards
  kWriteZeroes,  // the range reads as zeroes afterwards
};

std::string_view BlockOperationName(BlockOperation operation);
constexpr bool ChangesDisk(BlockOperation operation) {
  return operation == BlockOperation::kWrite || operation == BlockOperation::kDiscard ||
         operation == BlockOperation::kWriteZeroes;
}

struct BlockRequest {
  // By the submitter. Offset and size are multiples of 512 inside the disk, not empty but for
  // kFlush.
  BlockOperation operation = BlockOperation::kRead;
  bool durable = false;    // durable when it completes, as if a flush followed
  bool may_unmap = false;  // kWriteZeroes: the range may be deallocated
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  std::span<const iovec> iovecs;  // kRead, kWrite: of `size_bytes` in all, at most 1024
  void* owner = nullptr;          // for the submitter

  // By the backend.
  uint64_t id = 0;          // ascending in the order of submission
  uint64_t generation = 0;  // the gate's when it was submitted
  int error_number = 0;     // 0 when done, else an errno
  uint32_t table_index = 0;
};

// Marks the blocks that `request` changes, if any. One that failed counts too: part of it may have
// landed.
void MarkChanged(const BlockRequest& request, uint32_t block_bytes, DirtyBitmap& dirty);
// "write of 4096 bytes at byte 8192: …"
Error FailureOf(const BlockRequest& request, int error_number);

}  // namespace pacsvisor
