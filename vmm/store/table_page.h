// One page of a table (FORMAT.md, 5): entries at level 0, links to pages above it. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/byte_stream.h"
#include "vmm/store/seal.h"
#include "vmm/store/sha256.h"

namespace pacsvisor {

// Where a chunk is: a hint (its name decides).
struct ChunkPlace {
  uint32_t pack = 0;  // 0: none
  uint32_t offset = 0;
  uint16_t length = 0;
  friend auto operator<=>(const ChunkPlace&, const ChunkPlace&) = default;
};

// Whether a store's pages hold the keys to what they name (FORMAT.md, 12).
enum class PageKeys : bool { kNone, kHeld };

// What a chunk is called, and in an encrypted store the key to it.
struct ChunkId {
  Hash name = {};
  SealKey key = {};
  friend auto operator<=>(const ChunkId&, const ChunkId&) = default;
};

enum class BlockKind : uint8_t {
  kNone,   // no answer
  kZero,   // nothing but zeroes
  kChunk,  // the chunk of this name
};

// Keys first … first + count - 1; a chunk's count is 1.
struct TableEntry {
  uint64_t first = 0;
  uint64_t count = 1;
  BlockKind kind = BlockKind::kNone;
  ChunkPlace place;
  ChunkId chunk;

  uint64_t end() const { return first + count; }
  friend bool operator==(const TableEntry&, const TableEntry&) = default;
};

struct PageLink {
  uint64_t first = 0;  // least key
  uint64_t offset = 0;
  uint32_t bytes = 0;
  Hash hash = {};
  SealKey key = {};
  friend bool operator==(const PageLink&, const PageLink&) = default;
};

struct TablePage {
  unsigned level = 0;
  uint64_t lower = 0;               // every key is at least this
  uint64_t upper = 0;               // and less than this
  std::vector<TableEntry> entries;  // level 0
  std::vector<PageLink> links;      // other levels
};

// Packs entries, ascending and disjoint, into level 0 pages.
class EntryPageWriter {
 public:
  explicit EntryPageWriter(PageKeys keys = PageKeys::kNone) : keys_(keys) { Clear(); }

  void Add(const TableEntry& entry);
  uint32_t count() const { return count_; }
  size_t size_bytes() const { return writer_.size(); }
  uint64_t first() const { return first_; }
  // The page so far. Begins the next one with Clear().
  std::span<const uint8_t> Finish();
  void Clear();

 private:
  const PageKeys keys_;
  ByteWriter writer_;
  uint32_t count_ = 0;
  uint64_t first_ = 0;
  uint64_t end_ = 0;
  uint32_t pack_ = 0;
  uint32_t offset_ = 0;
};

std::vector<uint8_t> EncodeLinkPage(unsigned level, std::span<const PageLink> links,
                                    PageKeys keys = PageKeys::kNone);

// Of any bytes. Every key of the result is in [lower, upper), ascending and disjoint; every place
// and length keeps the format's limits. Links are inside `file_bytes`.
Result<TablePage> DecodeTablePage(std::span<const uint8_t> bytes, uint64_t lower, uint64_t upper,
                                  uint64_t file_bytes, PageKeys keys = PageKeys::kNone);

}  // namespace pacsvisor
