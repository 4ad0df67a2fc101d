#include "vmm/disk/block_map.h"

#include <algorithm>

#include "vmm/base/align.h"

namespace pacsvisor {

BlockMap::BlockMap(uint64_t block_count)
    : block_count_(block_count), chunks_(DivideRoundUp(block_count, kChunkBlocks)) {}

uint64_t BlockMap::ChunkEnd(uint64_t chunk) const {
  return std::min((chunk + 1) * kChunkBlocks, block_count_);
}

void BlockMap::Count(Chunk& chunk, BlockPlace place, int64_t blocks) {
  if (place.base()) {
    return;
  }
  uint64_t& in_chunk = place.source() ? chunk.in_source : chunk.in_layers;
  uint64_t& in_map = place.source() ? in_source_ : in_layers_;
  in_chunk += static_cast<uint64_t>(blocks);
  in_map += static_cast<uint64_t>(blocks);
}

void BlockMap::Set(uint64_t block, BlockPlace place) {
  const BlockPlace before = Get(block);
  if (before == place) {
    return;
  }
  Chunk& chunk = chunks_[block / kChunkBlocks];
  if (chunk.places == nullptr) {
    chunk.places = std::make_unique<Places>();
    chunk.places->fill(chunk.all);
  }
  (*chunk.places)[block % kChunkBlocks] = place;
  Count(chunk, before, -1);
  Count(chunk, place, 1);
  if (chunk.in_layers == 0 && chunk.in_source == 0) {
    chunk.all = BlockPlace::Base();
    chunk.places.reset();
  }
}

void BlockMap::SetAllInSource() {
  CHECK(layered_count() == 0, "{} blocks are somewhere else", layered_count());
  for (uint64_t i = 0; i < chunks_.size(); ++i) {
    chunks_[i].all = BlockPlace::Source();
    Count(chunks_[i], BlockPlace::Source(), static_cast<int64_t>(ChunkEnd(i) - i * kChunkBlocks));
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
    const Chunk& chunk = chunks_[block / kChunkBlocks];
    if (chunk.in_layers + chunk.in_source == 0) {
      block = AlignDown(block, kChunkBlocks) + kChunkBlocks;
    } else if (Get(block).base()) {
      ++block;
    } else {
      return block;
    }
  }
  return block_count_;
}

uint64_t BlockMap::NextInLayers(uint64_t from) const {
  for (uint64_t block = from; block < block_count_;) {
    const BlockPlace place = Get(block);
    if (chunks_[block / kChunkBlocks].in_layers == 0) {
      block = AlignDown(block, kChunkBlocks) + kChunkBlocks;
    } else if (place.base() || place.source()) {
      ++block;
    } else {
      return block;
    }
  }
  return block_count_;
}

}  // namespace pacsvisor
