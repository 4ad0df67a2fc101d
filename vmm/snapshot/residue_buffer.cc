#include "vmm/snapshot/residue_buffer.h"

#include <algorithm>
#include <utility>

#include "vmm/base/align.h"
#include "vmm/memory/guest_address.h"

namespace pacsvisor {
namespace {

constexpr size_t kResiduePieceBytes = 2 * kMiB;

}  // namespace

Result<std::span<uint8_t>> ResidueBuffer::Reserve(Extent pages) {
  const size_t bytes = pages.count * kPageSizeBytes;
  CHECK(bytes <= kResiduePieceBytes, "{} pages in one go", pages.count);
  const MutexLock lock(mutex_);
  if (piece_ == nullptr || kResiduePieceBytes - piece_->used_bytes < bytes) {
    Mapping mapping = TRY(Mapping::MapGuarded(kResiduePieceBytes, kPageSizeBytes, -1, 0));
    piece_ = std::make_shared<Piece>(Piece{.mapping = std::move(mapping)});
  }
  const std::span<uint8_t> room(piece_->mapping.data() + piece_->used_bytes, bytes);
  piece_->used_bytes += bytes;
  size_bytes_ += bytes;
  entries_.push_back({.pages = pages, .piece = piece_, .bytes = room});
  return room;
}

void ResidueBuffer::Landed(Extent pages) {
  const MutexLock lock(mutex_);
  // The latest ones are at the end.
  const auto found = std::find_if(entries_.rbegin(), entries_.rend(),
                                  [&](const Entry& entry) { return entry.pages == pages; });
  CHECK(found != entries_.rend(), "no room was given to pages {}+{}", pages.first, pages.count);
  found->landed = true;
}

uint64_t ResidueBuffer::size_bytes() const {
  const MutexLock lock(mutex_);
  return size_bytes_;
}

Status ResidueBuffer::Drain(
    const std::function<Status(BlockIndex, std::span<const uint8_t>)>& visit) {
  std::vector<Entry> landed;
  {
    const MutexLock lock(mutex_);
    const auto middle = std::stable_partition(entries_.begin(), entries_.end(),
                                              [](const Entry& entry) { return !entry.landed; });
    landed.assign(std::make_move_iterator(middle), std::make_move_iterator(entries_.end()));
    entries_.erase(middle, entries_.end());
    for (const Entry& entry : landed) {
      size_bytes_ -= entry.bytes.size();
    }
  }
  for (const Entry& entry : landed) {
    for (uint64_t i = 0; i < entry.pages.count; ++i) {
      TRY(visit(BlockIndex(entry.pages.first.raw() + i),
                entry.bytes.subspan(i * kPageSizeBytes, kPageSizeBytes)));
    }
  }
  return {};
}

}  // namespace pacsvisor
