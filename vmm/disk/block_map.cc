#include "vmm/disk/block_map.h"

#include <algorithm>

#include "vmm/base/align.h"

namespace pacsvisor {

BlockMap::BlockMap(uint64_t block_count)
    : block_count_(block_count), chunks_(DivideRoundUp(block_count, kChunkBlocks)) {}

void BlockMap::Set(uint64_t block, BlockPlace place) {
  const BlockPlace before = Get(block);
  if (before == place) {
    return;
  }
  std::unique_ptr<Chunk>& chunk = chunks_[block / kChunkBlocks];
  if (chunk == nullptr) {
    chunk = std::make_unique<Chunk>();
  }
  chunk->places[block % kChunkBlocks] = place;
  if (before.base()) {
    ++chunk->layered;
    ++layered_;
  } else if (place.base()) {
    --layered_;
    if (--chunk->layered == 0) {
      chunk.reset();
    }
  }
}

uint64_t BlockMap::Run(uint64_t first, uint64_t end) const {
  const BlockPlace place = Get(first);
  uint64_t block = first + 1;
  while (block < end && Get(block) == place) {
    ++block;
  }
  return block - first;
}

uint64_t BlockMap::NextLayered(uint64_t from) const {
  for (uint64_t block = from; block < block_count_;) {
    const Chunk* chunk = chunks_[block / kChunkBlocks].get();
    if (chunk == nullptr) {
      block = AlignDown(block, kChunkBlocks) + kChunkBlocks;
    } else if (chunk->places[block % kChunkBlocks].base()) {
      ++block;
    } else {
      return block;
    }
  }
  return block_count_;
}

}  // namespace pacsvisor
