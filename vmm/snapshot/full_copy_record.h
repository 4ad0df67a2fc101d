// The record of full_copy.h's format.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pacsvisor {

inline constexpr char kFullCopyMagic[8] = {'P', 'V', 'F', 'U', 'L', 'L', '0', '1'};
inline constexpr uint64_t kFullCopyMaxPayloadBytes = 64ul << 20;
inline constexpr uint64_t kFullCopyRunBytes = 1ul << 20;  // of blocks in one record
inline constexpr uint32_t kFullCopyMaxSpaces = 64;

enum class FullCopyKind : uint32_t { kState = 1, kSpace = 2, kBlocks = 3, kEnd = 4 };

struct FullCopyRecord {
  uint32_t kind = 0;
  uint32_t space = 0;
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t payload_bytes = 0;
  uint64_t checksum = 0;
};
static_assert(offsetof(FullCopyRecord, space) == 4 && offsetof(FullCopyRecord, first) == 8);
static_assert(offsetof(FullCopyRecord, count) == 16);
static_assert(offsetof(FullCopyRecord, payload_bytes) == 24);
static_assert(offsetof(FullCopyRecord, checksum) == 32 && sizeof(FullCopyRecord) == 40);

}  // namespace pacsvisor
