// Some of what a writer was given, in the order given, and what has become of each so far. It goes
// from thread to thread (chunk_pipeline.h). Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/store/chunk_codec.h"
#include "vmm/store/table_page.h"

namespace pacsvisor {

struct BatchItem {
  enum class Fate : uint8_t {
    kGiven,      // nothing is known yet
    kZero,       // a run of zeroes
    kUnchanged,  // the parent has it: `chunk`, `place`
    kKnown,      // the store has it: `place`
    kFresh,      // to be stored
    kRepeated,   // as a fresh one before it
  };
  Fate fate = Fate::kGiven;
  uint32_t space = 0;  // the writer's number of it
  uint64_t key = 0;
  uint64_t count = 1;  // of zeroes
  Hash contents = {};  // of a block
  ChunkId chunk;
  ChunkPlace place;
  std::span<const uint8_t> stored;  // of a fresh one, once it is made: in the batch
};

class ChunkBatch {
 public:
  explicit ChunkBatch(size_t most_items);

  bool full() const { return items_.size() == most_items_; }
  std::vector<BatchItem>& items() { return items_; }

  void AddBlock(uint32_t space, uint64_t key, std::span<const uint8_t> bytes);  // a copy of them
  void AddZeroes(uint32_t space, uint64_t key, uint64_t count);
  void Clear();

  // Of what was given: finds zeroes, and the others' names.
  void Name(const ChunkCodec& codec);
  // Of what is not unchanged: makes keys, and of fresh ones the stored form.
  bool NeedsStoring() const;
  void Store(const ChunkCodec& codec, ChunkCompressor& compressor);

 private:
  std::span<const uint8_t> BlockOf(size_t item) const {
    return std::span(blocks_).subspan(item * kStoreBlockBytes, kStoreBlockBytes);
  }

  const size_t most_items_;
  std::vector<BatchItem> items_;
  std::vector<uint8_t> blocks_;  // one for each item
  std::vector<uint8_t> stored_;  // the same, as far as it is not the block itself
};

}  // namespace pacsvisor
