#include "vmm/memory/lazy_pages.h"

#include <algorithm>

#include "vmm/base/align.h"

namespace pacsvisor {

std::shared_ptr<PageSource> LazyPages::Source() const {
  const MutexLock lock(mutex_);
  return source_;
}

void LazyPages::ReleaseSource() {
  std::shared_ptr<PageSource> source;  // its end may take time: not under the lock
  const MutexLock lock(mutex_);
  source.swap(source_);
}

Result<Extent> LazyPages::WindowAround(PageSource& source, BlockIndex page,
                                       uint64_t cluster_pages) const {
  const uint64_t zero_pages = TRY(source.ZeroRun(page));
  const uint64_t piece = zero_pages > 0 ? kZeroPages : cluster_pages;
  // What lies before a zero page may be anything; a cluster is filled from its start.
  const uint64_t first = zero_pages > 0 ? page.raw() : AlignDown(page.raw(), piece);
  uint64_t end = std::min(AlignDown(page.raw(), piece) + piece, missing_.page_count());
  if (zero_pages > 0 && zero_pages < end - first) {
    end = first + zero_pages;
  }
  return Extent{BlockIndex(first), end - first};
}

Result<std::optional<Extent>> LazyPages::ClaimAround(BlockIndex page, uint64_t cluster_pages) {
  const std::shared_ptr<PageSource> source = Source();
  if (source == nullptr || missing_.IsThere(page)) {
    TRY(uffd_.Wake(pages_.Leading({page, 1})));  // it came while the fault was on its way to us
    return std::optional<Extent>();
  }
  const Extent window = TRY(WindowAround(*source, page, cluster_pages));
  return missing_.ClaimAround(page, window);
}

Result<std::optional<Extent>> LazyPages::ClaimNext(uint64_t from, uint64_t end,
                                                   uint64_t cluster_pages) {
  const std::shared_ptr<PageSource> source = Source();
  while (source != nullptr) {
    const std::optional<BlockIndex> page = missing_.Next(from, end);
    if (!page.has_value()) {
      break;
    }
    const Extent window = TRY(WindowAround(*source, *page, cluster_pages));
    const std::optional<Extent> claimed = missing_.ClaimAround(*page, window);
    if (claimed.has_value()) {
      return claimed;
    }
  }
  return std::optional<Extent>();
}

Result<bool> LazyPages::Fill(Extent claimed, std::span<uint8_t> buffer) {
  const std::shared_ptr<PageSource> source = Source();  // there as long as a page is missing
  Extent left = claimed;
  while (left.count > 0) {
    const uint64_t filled = TRY(FillLeading(*source, left, buffer));
    left = {BlockIndex(left.first.raw() + filled), left.count - filled};
  }
  return missing_.Filled(claimed);
}

Result<uint64_t> LazyPages::DataRun(PageSource& source, Extent left) const {
  for (uint64_t run = 1; run < left.count; ++run) {
    const uint64_t zero_pages = TRY(source.ZeroRun(BlockIndex(left.first.raw() + run)));
    if (zero_pages > 0) {
      return run;
    }
  }
  return left.count;
}

Result<uint64_t> LazyPages::FillLeading(PageSource& source, Extent left,
                                        std::span<uint8_t> buffer) const {
  const uint64_t zero_pages = TRY(source.ZeroRun(left.first));
  if (zero_pages > 0) {
    const Extent zero = {left.first, std::min(zero_pages, left.count)};
    TRY(pages_.ForEach(
        zero, [this](Extent, std::span<uint8_t> bytes) -> Status { return uffd_.Zero(bytes); }));
    return zero.count;
  }
  left.count = std::min(left.count, buffer.size() / kPageSizeBytes);
  const Extent data = {left.first, TRY(DataRun(source, left))};
  const std::span<uint8_t> fetched = buffer.first(data.count * kPageSizeBytes);
  TRY(source.Fetch(data.first, fetched));
  size_t offset = 0;
  TRY(pages_.ForEach(data, [&](Extent, std::span<uint8_t> to) -> Status {
    const std::span<const uint8_t> from = fetched.subspan(offset, to.size());
    offset += to.size();
    return uffd_.Copy(to, from);
  }));
  return data.count;
}

}  // namespace pacsvisor
