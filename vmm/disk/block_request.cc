#include "vmm/disk/block_request.h"

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

}  // namespace pacsvisor
