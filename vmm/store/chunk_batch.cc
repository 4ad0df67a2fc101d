#include "vmm/store/chunk_batch.h"

#include <algorithm>
#include <cstring>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

bool IsZeroBlock(std::span<const uint8_t> bytes) {
  return bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace

ChunkBatch::ChunkBatch(size_t most_items)
    : most_items_(most_items),
      blocks_(most_items * kStoreBlockBytes),
      stored_(most_items * kMaxStoredChunkBytes) {
  CHECK(most_items > 0);
  items_.reserve(most_items);
}

void ChunkBatch::AddBlock(uint32_t space, uint64_t key, std::span<const uint8_t> bytes) {
  CHECK(!full() && bytes.size() == kStoreBlockBytes);
  std::memcpy(blocks_.data() + items_.size() * kStoreBlockBytes, bytes.data(), bytes.size());
  BatchItem& item = items_.emplace_back();
  item.space = space;
  item.key = key;
}

void ChunkBatch::AddZeroes(uint32_t space, uint64_t key, uint64_t count) {
  CHECK(!full());
  BatchItem& item = items_.emplace_back();
  item.fate = BatchItem::Fate::kZero;
  item.space = space;
  item.key = key;
  item.count = count;
}

void ChunkBatch::Clear() { items_.clear(); }

void ChunkBatch::Name(const ChunkCodec& codec) {
  for (size_t i = 0; i < items_.size(); ++i) {
    BatchItem& item = items_[i];
    if (item.fate != BatchItem::Fate::kGiven) {
      continue;
    }
    if (IsZeroBlock(BlockOf(i))) {
      item.fate = BatchItem::Fate::kZero;
      continue;
    }
    item.contents = Sha256(BlockOf(i));
    item.chunk.name = codec.Name(item.contents);
  }
}

bool ChunkBatch::NeedsStoring() const {
  return std::any_of(items_.begin(), items_.end(), [](const BatchItem& item) {
    return item.fate != BatchItem::Fate::kZero && item.fate != BatchItem::Fate::kUnchanged;
  });
}

void ChunkBatch::Store(const ChunkCodec& codec, ChunkCompressor& compressor) {
  for (size_t i = 0; i < items_.size(); ++i) {
    BatchItem& item = items_[i];
    if (item.fate == BatchItem::Fate::kZero || item.fate == BatchItem::Fate::kUnchanged) {
      continue;
    }
    item.chunk.key = codec.Key(item.contents);
    if (item.fate != BatchItem::Fate::kFresh) {
      continue;
    }
    const std::span<uint8_t> room =
        std::span(stored_).subspan(i * kMaxStoredChunkBytes, kMaxStoredChunkBytes);
    const std::span<const uint8_t> block = BlockOf(i);
    item.stored = codec.Encode(item.chunk, compressor.Compress(block), room);
    if (item.stored.data() != block.data() && item.stored.data() != room.data()) {
      // The compressor's, until it is used again.
      std::copy(item.stored.begin(), item.stored.end(), room.begin());
      item.stored = room.first(item.stored.size());
    }
  }
}

}  // namespace pacsvisor
