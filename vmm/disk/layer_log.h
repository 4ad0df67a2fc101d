// The bytes of a layered disk's map log: which blocks went to which place, in the order in which
// that became durable. The last word on a block counts (README.md, "The map log").
//
//   sector 0: header  0 magic "PVLAYMAP"   8 u32 version   12 u32 block size
//                    16 u64 disk size      24 u64 identity of the base image    32 u64 log id
//                   504 u64 XXH3-64 of the 504 bytes before
//   batches, each filled up with zeroes to whole sectors:
//                     0 magic "PVMB"        4 u32 entries   8 u64 sequence, from 1 on
//                    16 u64 XXH3-64 of the batch with this field 0; the seed is the log's id
//                    24 entries of 16 bytes: 0 u64 first block   8 u32 blocks   12 u8 layer
//                       13 u8 kind (BlockPlace::Kind)   14 u16 zero
//
// All numbers are little-endian. A batch is written in one piece, the next one when it is durable;
// so the last one may be torn, and no other. Threads: any.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/disk/block_map.h"

namespace pacsvisor {

inline constexpr uint64_t kLogSectorBytes = 512;
inline constexpr size_t kMaxBatchEntries = 65536;

struct LayerLogHeader {
  uint64_t disk_bytes = 0;
  uint64_t base_identity = 0;  // the image's inode, 0 for a block device
  uint64_t log_id = 0;         // random: tells this log's batches from those of a former one
};

std::vector<uint8_t> EncodeLogHeader(const LayerLogHeader& header);
// 1 to kMaxBatchEntries changes, of at most 2^32 - 1 blocks each.
std::vector<uint8_t> EncodeLogBatch(uint64_t log_id, uint64_t sequence,
                                    std::span<const PlaceChange> changes);

// A log as it lies on the disk.
struct LayerLogSource {
  std::string name;  // for messages
  uint64_t size_bytes = 0;
  std::function<Status(uint64_t offset_bytes, std::span<uint8_t> bytes)> read;
};

// kCorrupt when it fails its check, kUnsupported when it is of another version.
Result<LayerLogHeader> ReadLogHeader(const LayerLogSource& source);

struct LayerLogEnd {
  uint64_t next_sequence = 1;
  uint64_t end_bytes = kLogSectorBytes;  // where the next batch goes
};

// Applies every batch to `map`, which is as large as the disk. What is torn at the end is left out;
// a batch that fails its check while a valid one stands behind it is kCorrupt.
Result<LayerLogEnd> ReplayLog(const LayerLogSource& source, const LayerLogHeader& header,
                              BlockMap& map);

}  // namespace pacsvisor
