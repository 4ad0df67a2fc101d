// Dirty pages by this process's page tables: userfaultfd protects guest memory against writing, the
// kernel lifts the protection at the first write by itself (UFFD_FEATURE_WP_ASYNC), PAGEMAP_SCAN
// reports what is not protected and protects it anew in one step (Linux 6.7,
// Documentation/admin-guide/mm/pagemap.rst). Sees what vCPUs and this process's threads write; does
// not see DMA into pages that were pinned before (DESIGN.md section 5): those the VMM marks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "vmm/base/linux_abi.h"
#include "vmm/base/unique_fd.h"
#include "vmm/dirty/dirty_source.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

// What it needs of the host: opened once, before privileges are given up, after the last fork.
// Serves one memory after another. Threads: any; constant.
class PagemapAccess {
 public:
  // kUnsupported where the kernel lacks any of it.
  static Result<std::shared_ptr<const PagemapAccess>> Open();

  int userfaultfd() const { return userfaultfd_.get(); }
  int pagemap() const { return pagemap_.get(); }

 private:
  PagemapAccess(UniqueFd userfaultfd, UniqueFd pagemap)
      : userfaultfd_(std::move(userfaultfd)), pagemap_(std::move(pagemap)) {}

  const UniqueFd userfaultfd_;
  const UniqueFd pagemap_;
};

class PagemapSource final : public DirtySource {
 public:
  // `memory` outlives the source.
  PagemapSource(GuestMemory& memory, std::shared_ptr<const PagemapAccess> access);

  std::string_view name() const override { return "pagemap"; }
  // Refused where another userfaultfd has the memory.
  Status Start() override;
  void Stop() override;
  Status Harvest(std::span<uint64_t> words) override;
  Status HarvestPaused(std::span<uint64_t> words) override;

 private:
  Status Register(const GuestMemory::HostRange& range);
  Status ScanAll(std::span<uint64_t> words, uint64_t flags);
  Status Scan(const GuestMemory::HostRange& range, std::span<uint64_t> words, uint64_t flags);

  GuestMemory& memory_;
  const std::shared_ptr<const PagemapAccess> access_;
  std::vector<PageRegion> regions_;  // of one call
};

}  // namespace pacsvisor
