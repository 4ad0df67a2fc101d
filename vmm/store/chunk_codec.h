// A chunk as it is stored: raw, or one zstd frame when that saves enough (FORMAT.md, 3).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/store_format.h"

struct ZSTD_CCtx_s;

namespace pacsvisor {

// Threads: one at a time.
class ChunkCompressor {
 public:
  ChunkCompressor();
  ~ChunkCompressor();
  ChunkCompressor(const ChunkCompressor&) = delete;
  ChunkCompressor& operator=(const ChunkCompressor&) = delete;

  // `block`, or its compressed form, which lives until the next call.
  std::span<const uint8_t> Compress(std::span<const uint8_t> block);

 private:
  ZSTD_CCtx_s* context_;
  std::array<uint8_t, kStoreBlockBytes> buffer_;
};

// Fills `block` from its stored form; false when that does not decompress to a block. Unchecked.
bool DecompressChunk(std::span<const uint8_t> stored, std::span<uint8_t> block);

// The same, and compares the block with its name; false when it is not it.
// Threads: any.
bool DecodeChunk(std::span<const uint8_t> stored, const Hash& name, std::span<uint8_t> block);

// The file of a state (FORMAT.md, 6), and back. `plain_bytes` is what the root says of its size.
std::vector<uint8_t> EncodeStateObject(std::span<const uint8_t> state);
Result<std::vector<uint8_t>> DecodeStateObject(std::span<const uint8_t> bytes,
                                               uint64_t plain_bytes);

}  // namespace pacsvisor
