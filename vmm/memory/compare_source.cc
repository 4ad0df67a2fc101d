#include "vmm/memory/compare_source.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "vmm/base/align.h"
#include "vmm/dirty/bit_words.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kWordBits = 64;

}  // namespace

CompareSource::CompareSource(const GuestMemory& memory) : memory_(memory) {
  const std::array<uint8_t, kPageSizeBytes> page{};
  zeroes_ = XXH3_128bits(page.data(), page.size());
}

Status CompareSource::Start() {
  hashes_.assign(memory_.page_count(), {});
  reported_.assign(DivideRoundUp(memory_.page_count(), kWordBits), 0);
  Compare(reported_);
  std::fill(reported_.begin(), reported_.end(), 0);
  return {};
}

void CompareSource::Stop() {
  hashes_ = {};
  reported_ = {};
}

void CompareSource::Copied(BlockIndex first, std::span<const uint8_t> bytes) {
  for (size_t at = 0; at < bytes.size(); at += kPageSizeBytes) {
    hashes_.at(first.raw() + at / kPageSizeBytes) = XXH3_128bits(&bytes[at], kPageSizeBytes);
  }
}

Status CompareSource::Harvest(std::span<uint64_t> words) {
  Compare(reported_);
  OrBitsAt(words, 0, reported_, hashes_.size());
  return {};
}

Status CompareSource::HarvestPaused(std::span<uint64_t> words) {
  TRY(Harvest(words));
  std::fill(reported_.begin(), reported_.end(), 0);
  return {};
}

// Sets the bits of pages that changed, and remembers them as they are now.
void CompareSource::Compare(std::span<uint64_t> words) {
  Data data;
  for (const GuestMemory::HostRange& range : memory_.host_ranges()) {
    const uint64_t first = range.first_block.raw();
    for (uint64_t page = first; page < first + range.size_bytes / kPageSizeBytes; ++page) {
      if (page >= data.end) {
        data = NextData(page);
      }
      const XXH128_hash_t hash =
          page < data.begin
              ? zeroes_
              : XXH3_128bits(range.host + (page - first) * kPageSizeBytes, kPageSizeBytes);
      if (XXH128_isEqual(hash, hashes_[page]) == 0) {
        hashes_[page] = hash;
        words[page / kWordBits] |= uint64_t{1} << (page % kWordBits);
      }
    }
  }
}

// The first pages from `page` on that are worth reading. Reading a page of a memfd that was never
// written would give it memory; an anonymous one is the kernel's page of zeroes.
CompareSource::Data CompareSource::NextData(uint64_t page) const {
  const uint64_t page_count = memory_.page_count();
  if (memory_.memfd() < 0) {
    return {page, page_count};
  }
  // The file holds the regions as the space counts them.
  const off_t begin =
      ::lseek(memory_.memfd(), static_cast<off_t>(page * kPageSizeBytes), SEEK_DATA);
  if (begin < 0) {
    // ENXIO: nothing but holes to the end. Anything else: better read too much.
    return errno == ENXIO ? Data{page_count, page_count} : Data{page, page_count};
  }
  const off_t end = ::lseek(memory_.memfd(), begin, SEEK_HOLE);
  const uint64_t end_page =
      end < 0 ? page_count : DivideRoundUp(static_cast<uint64_t>(end), kPageSizeBytes);
  return {static_cast<uint64_t>(begin) / kPageSizeBytes, end_page};
}

}  // namespace pacsvisor
