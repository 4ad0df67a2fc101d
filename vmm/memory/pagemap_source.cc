#include "vmm/memory/pagemap_source.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/dirty/bit_words.h"
#include "vmm/memory/userfaultfd.h"

namespace pacsvisor {
namespace {

// The last one is for memory of a memfd.
constexpr uint64_t kFeatures = UFFD_FEATURE_PAGEFAULT_FLAG_WP | kUffdFeatureWpUnpopulated |
                               kUffdFeatureWpAsync | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
constexpr size_t kRegionsPerCall = 4096;

// The kernel takes addresses as numbers.
uint64_t AddressOf(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

// Interrupted only by what ends the process: not to be repeated, for some pages may be protected
// already and would not be reported again.
int PagemapScan(int pagemap, PagemapScanArgument& argument) {
  return ::ioctl(pagemap, kPagemapScan, &argument);
}

// Of one page of this process.
Status TryPagemapScan(int pagemap) {
  const uint64_t page = AlignDown(AddressOf(&kFeatures), kPageSizeBytes);
  PageRegion region = {};
  PagemapScanArgument argument = {.size = sizeof(PagemapScanArgument),
                                  .start = page,
                                  .end = page + kPageSizeBytes,
                                  .regions = AddressOf(&region),
                                  .region_count = 1,
                                  .category_mask = kPageIsPresent,
                                  .return_mask = kPageIsPresent};
  if (PagemapScan(pagemap, argument) < 0) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this kernel has no PAGEMAP_SCAN (Linux 6.7): errno {}", errno);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const PagemapAccess>> PagemapAccess::Open() {
  UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) {
    return Error::FromErrno(errno, "/proc/self/pagemap");
  }
  TRY(TryPagemapScan(pagemap.get()));
  UniqueFd userfaultfd = TRY(OpenUserfaultfd(UserfaultScope::kUserFaults, kFeatures));
  return std::shared_ptr<const PagemapAccess>(
      new PagemapAccess(std::move(userfaultfd), std::move(pagemap)));
}

PagemapSource::PagemapSource(GuestMemory& memory, std::shared_ptr<const PagemapAccess> access)
    : memory_(memory), access_(std::move(access)), regions_(kRegionsPerCall) {}

Status PagemapSource::Start() {
  Status started;
  for (const GuestMemory::HostRange& range : memory_.host_ranges()) {
    if (started.ok()) {
      started = Register(range);
    }
  }
  if (started.ok()) {
    // Pages that are not there are not protected, and need not be: whatever brings them in counts
    // as a write.
    std::vector<uint64_t> before(memory_.dirty().word_count());
    started = ScanAll(before, kPagemapScanWpMatching);
  }
  if (!started.ok()) {
    Stop();
  }
  return started;
}

void PagemapSource::Stop() {
  for (const GuestMemory::HostRange& range : memory_.host_ranges()) {
    uffdio_range whole = {.start = AddressOf(range.host), .len = range.size_bytes};
    // EINVAL: Start has not come so far.
    if (::ioctl(access_->userfaultfd(), UFFDIO_UNREGISTER, &whole) != 0 && errno != EINVAL) {
      Log(LogLevel::kWarning, "guest memory stays write-protected: errno {}", errno);
    }
  }
}

Status PagemapSource::Harvest(std::span<uint64_t> words) {
  return ScanAll(words, kPagemapScanWpMatching);
}

// What is not protected anew is reported again.
Status PagemapSource::HarvestPaused(std::span<uint64_t> words) { return ScanAll(words, 0); }

Status PagemapSource::Register(const GuestMemory::HostRange& range) {
  uffdio_register request = {};
  request.range = {.start = AddressOf(range.host), .len = range.size_bytes};
  request.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(access_->userfaultfd(), UFFDIO_REGISTER, &request) != 0) {
    return Error::FromErrno(errno, "cannot watch guest memory at {} through userfaultfd{}",
                            range.start,
                            errno == EBUSY ? ", which something else does already" : "");
  }
  return {};
}

Status PagemapSource::ScanAll(std::span<uint64_t> words, uint64_t flags) {
  for (const GuestMemory::HostRange& range : memory_.host_ranges()) {
    TRY(Scan(range, words, flags));
  }
  return {};
}

Status PagemapSource::Scan(const GuestMemory::HostRange& range, std::span<uint64_t> words,
                           uint64_t flags) {
  const uint64_t begin = AddressOf(range.host);
  const uint64_t first_page = range.first_block.raw();
  PagemapScanArgument argument = {.size = sizeof(PagemapScanArgument),
                                  .flags = flags | kPagemapScanCheckWpAsync,
                                  .start = begin,
                                  .end = begin + range.size_bytes,
                                  .regions = AddressOf(regions_.data()),
                                  .region_count = regions_.size(),
                                  .category_mask = kPageIsWritten,
                                  .return_mask = kPageIsWritten};
  while (argument.start < argument.end) {
    const int count = PagemapScan(access_->pagemap(), argument);
    if (count < 0) {
      const int reason = errno;
      // It may have protected some that it did not report: they count as written.
      SetBits(words, first_page + (argument.start - begin) / kPageSizeBytes,
              (argument.end - argument.start) / kPageSizeBytes);
      return Error::FromErrno(reason, "PAGEMAP_SCAN of guest memory at {}", range.start);
    }
    for (int i = 0; i < count; ++i) {
      const PageRegion& region = regions_[static_cast<size_t>(i)];
      SetBits(words, first_page + (region.start - begin) / kPageSizeBytes,
              (region.end - region.start) / kPageSizeBytes);
    }
    argument.start = argument.walk_end;
  }
  return {};
}

}  // namespace pacsvisor
