// The bytes of a layered disk's map log: which blocks went to which place, in the order in which
// that became durable. The last word on a block counts (README.md, "The map log").
//
//   sector 0: header  0 magic "PVLAYMAP"   8 u32 version   12 u32 block size
//                    16 u64 disk size      24 u64 identity of the base image    32 u64 log id
//                   504 u64 XXH3-64 of the 504 bytes before
//             of version 2, of a disk with a source: 40 u32 bytes of the source's name, 1 to 8192
//   version 2, whole sectors behind it: the source's name, filled up with zeroes, and in the last
//             8 bytes the XXH3-64 of all before them in these sectors, seeded with the log's id
//   batches, each filled up with zeroes to whole sectors:
//                     0 magic "PVMB"        4 u32 entries   8 u64 sequence, from 1 on
//                    16 u64 XXH3-64 of the batch with this field 0; the seed is the log's id
//                    24 entries of 16 bytes: 0 u64 first block   8 u32 blocks   12 u8 layer
//                       13 u8 kind (BlockPlace::Kind)   14 u16 zero
//
// Where no batch speaks of a block it is in the base image, or, in version 2, in the source: such a
// log is written when no block was fetched yet. Version 1 is what is written without a source.
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
inline constexpr size_t kMaxSourceNameBytes = 8192;

struct LayerLogHeader {
  uint64_t disk_bytes = 0;
  uint64_t base_identity = 0;  // the image's inode, 0 for a block device
  uint64_t log_id = 0;         // random: tells this log's batches from those of a former one
  // What the blocks come from (BlockSource::name): its bytes mean something to whoever makes
  // sources, and nothing here. Empty: there is none.
  std::string source;

  uint64_t size_bytes() const;  // where the batches begin
};

std::vector<uint8_t> EncodeLogHeader(const LayerLogHeader& header);
// 1 to kMaxBatchEntries changes, none of them to the source, of at most 2^32 - 1 blocks each.
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

// Applies every batch to `map`, which is new and as large as the disk. What is torn at the end is
// left out; a batch that fails its check while a valid one stands behind it is kCorrupt.
Result<LayerLogEnd> ReplayLog(const LayerLogSource& source, const LayerLogHeader& header,
                              BlockMap& map);

}  // namespace pacsvisor
