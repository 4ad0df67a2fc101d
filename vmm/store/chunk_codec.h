// A chunk as it is stored: raw, or one zstd frame when that saves enough (FORMAT.md, 3).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/store_format.h"
#include "vmm/store/store_secret.h"
#include "vmm/store/table_page.h"

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

// How chunks of a store are called and stored: with its secret, or without (null). Threads: any.
class ChunkCodec {
 public:
  explicit ChunkCodec(std::shared_ptr<const StoreSecret> secret) : secret_(std::move(secret)) {}

  const StoreSecret* secret() const { return secret_.get(); }
  std::shared_ptr<const StoreSecret> shared_secret() const { return secret_; }
  PageKeys keys() const { return secret_ == nullptr ? PageKeys::kNone : PageKeys::kHeld; }
  size_t most_stored_bytes() const {
    return secret_ == nullptr ? kStoreBlockBytes : kMaxStoredChunkBytes;
  }

  // Of a block's contents, by their hash; the key alone takes as long again.
  Hash Name(const Hash& contents) const {
    return secret_ == nullptr ? contents : secret_->ChunkName(contents);
  }
  SealKey Key(const Hash& contents) const {
    return secret_ == nullptr ? SealKey{} : secret_->ChunkKey(contents);
  }

  // The stored form of what a ChunkCompressor made; it lives as long as both `compressed` and
  // `buffer`, of kMaxStoredChunkBytes.
  std::span<const uint8_t> Encode(const ChunkId& chunk, std::span<const uint8_t> compressed,
                                  std::span<uint8_t> buffer) const;
  // Fills `block`, and compares it with the chunk's name; false when it is not it.
  bool Decode(std::span<const uint8_t> stored, const ChunkId& chunk,
              std::span<uint8_t> block) const;

 private:
  const std::shared_ptr<const StoreSecret> secret_;
};

// The object of a state (FORMAT.md, 6), before it is sealed, and back. `plain_bytes` is what the
// root says of its size.
std::vector<uint8_t> EncodeStateObject(std::span<const uint8_t> state);
Result<std::vector<uint8_t>> DecodeStateObject(std::span<const uint8_t> bytes,
                                               uint64_t plain_bytes);

}  // namespace pacsvisor
