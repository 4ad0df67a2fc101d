// What the kernel headers of Debian 12 (6.1) do not have yet. Whether the running kernel has it is
// asked of the kernel, never of the headers.
#pragma once

#include <linux/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace pacsvisor {

// userfaultfd(2), UFFDIO_API's feature bits.
inline constexpr uint64_t kUffdFeatureWpUnpopulated = 1ull << 13;  // Linux 6.4
inline constexpr uint64_t kUffdFeatureWpAsync = 1ull << 15;        // Linux 6.7

// PAGEMAP_SCAN on /proc/PID/pagemap (Linux 6.7, Documentation/admin-guide/mm/pagemap.rst).
struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};
static_assert(sizeof(PageRegion) == 24);

struct PagemapScanArgument {
  uint64_t size;  // of this structure
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t regions;  // address of PageRegion[region_count]
  uint64_t region_count;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_any_mask;
  uint64_t return_mask;
};
static_assert(sizeof(PagemapScanArgument) == 96);
static_assert(offsetof(PagemapScanArgument, walk_end) == 32);
static_assert(offsetof(PagemapScanArgument, regions) == 40);
static_assert(offsetof(PagemapScanArgument, category_mask) == 72);
static_assert(offsetof(PagemapScanArgument, return_mask) == 88);

inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, PagemapScanArgument);
static_assert(kPagemapScan == 0xc060'6610);
// PagemapScanArgument::flags.
inline constexpr uint64_t kPagemapScanWpMatching = 1ull << 0;    // write-protect what is reported
inline constexpr uint64_t kPagemapScanCheckWpAsync = 1ull << 1;  // only where kUffdFeatureWpAsync
// Categories.
inline constexpr uint64_t kPageIsWritten = 1ull << 1;  // not write-protected by userfaultfd
inline constexpr uint64_t kPageIsPresent = 1ull << 3;

}  // namespace pacsvisor
