#include "vmm/snapshot/page_staging.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/base/align.h"

namespace pacsvisor {
namespace {

constexpr size_t kStagedPageBytes = 4096;
constexpr size_t kPieceBytes = 2 * kMiB;
constexpr uint64_t kPiecePages = kPieceBytes / kStagedPageBytes;

}  // namespace

PageStaging::PageStaging(uint64_t page_count)
    : page_count_(page_count),
      slots_(static_cast<uint32_t*>(std::calloc(page_count, sizeof(uint32_t)))) {
  CHECK(slots_ != nullptr || page_count == 0, "no memory for the places of {} pages", page_count);
}

Status PageStaging::Reserve(uint64_t pages) {
  while (capacity_ < pages) {
    Mapping piece = TRY(Mapping::MapGuarded(kPieceBytes, kPieceBytes, -1, 0));
    ::madvise(piece.data(), piece.size_bytes(), MADV_HUGEPAGE);
    std::memset(piece.data(), 0, piece.size_bytes());
    pieces_.push_back(std::move(piece));
    capacity_ += kPiecePages;
    pages_.reserve(capacity_);
  }
  return {};
}

std::span<uint8_t> PageStaging::Slot(uint64_t slot) const {
  return {pieces_[slot / kPiecePages].data() + slot % kPiecePages * kStagedPageBytes,
          kStagedPageBytes};
}

Result<std::span<uint8_t>> PageStaging::PlaceFor(BlockIndex page) {
  CHECK(page.raw() < page_count_, "page {} of {}", page, page_count_);
  uint32_t& slot = slots_[page.raw()];
  if (slot == 0) {
    if (room() == 0) {
      TRY(Reserve(capacity_ + kPiecePages));
    }
    pages_.push_back(page);
    slot = static_cast<uint32_t>(pages_.size());
  }
  return Slot(slot - 1);
}

Status PageStaging::ForEach(
    const std::function<Status(BlockIndex, std::span<const uint8_t>)>& visit) const {
  std::vector<BlockIndex> ordered = pages_;
  std::sort(ordered.begin(), ordered.end());
  for (const BlockIndex page : ordered) {
    TRY(visit(page, Slot(slots_[page.raw()] - 1)));
  }
  return {};
}

void PageStaging::Clear() {
  for (const BlockIndex page : pages_) {
    slots_[page.raw()] = 0;
  }
  pages_.clear();
}

}  // namespace pacsvisor
