#include "vmm/memory/memory_faults.h"

#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kMaxFetchPages = 512;

bool IsFetchSize(uint64_t pages) { return IsPowerOfTwo(pages) && pages <= kMaxFetchPages; }

void Touch(const uint8_t& byte) {
  uint8_t value = 0;
  asm volatile("movb %1, %0" : "=q"(value) : "m"(byte));  // unseen by sanitizers: others may write
}

}  // namespace

MemoryFaults::MemoryFaults(GuestMemory& memory, std::shared_ptr<const UserFaultFd> uffd,
                           EventFd stop, MemoryFaultsOptions options)
    : memory_(memory),
      uffd_owner_(std::move(uffd)),
      uffd_(*uffd_owner_),
      pages_(memory),
      stop_(std::move(stop)),
      options_(std::move(options)),
      residue_(uffd_, pages_) {}

Result<std::unique_ptr<MemoryFaults>> MemoryFaults::Create(GuestMemory& memory,
                                                           std::shared_ptr<const UserFaultFd> uffd,
                                                           MemoryFaultsOptions options) {
  CHECK(IsFetchSize(options.cluster_pages) && IsFetchSize(options.prefetch_pages), "{}, {}",
        options.cluster_pages, options.prefetch_pages);
  EventFd stop = TRY(EventFd::Create());
  std::unique_ptr<MemoryFaults> faults(
      new MemoryFaults(memory, std::move(uffd), std::move(stop), std::move(options)));
  TRY(faults->CheckFeatures());
  for (size_t thread = 0; thread < kFaultThreads; ++thread) {
    faults->fault_threads_.push_back(
        TRY(StartThread(ThreadKind::kFault, fmt::format("fault{}", thread),
                        [raw = faults.get(), thread] { raw->FaultLoop(thread); })));
  }
  return faults;
}

Status MemoryFaults::CheckFeatures() const {
  if (memory_.memfd() >= 0 && !uffd_.Has(UFFD_FEATURE_MISSING_SHMEM)) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this kernel's userfaultfd does not serve memory in a memfd (Linux 4.11 "
                       "and later do)");
  }
  return {};
}

MemoryFaults::~MemoryFaults() {
  const Status abandoned = residue_.Abandon();
  StopThreads();
  if (!IsWhole() || !abandoned.ok()) {
    CutOff();  // nobody fetches what is missing, nor lets go what is protected
  } else {
    LetGo();
  }
}

// Nothing is missing and nothing protected: memory is without a handler from here on.
void MemoryFaults::LetGo() {
  const MutexLock lock(modes_mutex_);
  if (modes_ == 0) {
    return;
  }
  const Status done = pages_.ForEachRegion(
      [this](std::span<uint8_t> region) -> Status { return uffd_.Unregister(region); });
  CHECK(done.ok(), "{}", done.error().message());
  modes_ = 0;
}

void MemoryFaults::StopThreads() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  stop_.Signal();
  for (std::thread& thread : fault_threads_) {
    thread.join();
  }
  if (prefetch_thread_.joinable()) {
    prefetch_thread_.join();
  }
}

void MemoryFaults::CutOff() {
  const Status done = pages_.ForEachRegion([this](std::span<uint8_t> region) -> Status {
    if (mprotect(region.data(), region.size(), PROT_NONE) != 0) {
      return Error::FromErrno(errno, "cannot cut guest memory off");
    }
    return uffd_.Wake(region);
  });
  // Better no process than a wrong page.
  CHECK(done.ok(), "{}", done.error().message());
}

Status MemoryFaults::AddModes(uint64_t modes) {
  if ((modes_ & modes) == modes) {
    return {};
  }
  TRY(pages_.ForEachRegion([this, all = modes_ | modes](std::span<uint8_t> region) -> Status {
    return uffd_.Register(region, all);
  }));
  modes_ |= modes;
  return {};
}

void MemoryFaults::FaultLoop(size_t thread) {
  const auto buffer =
      std::make_unique_for_overwrite<uint8_t[]>(options_.cluster_pages * kPageSizeBytes);
  const std::span<uint8_t> bytes(buffer.get(), options_.cluster_pages * kPageSizeBytes);
  while (true) {
    std::array<pollfd, 2> ready = {pollfd{.fd = uffd_.fd(), .events = POLLIN, .revents = 0},
                                   pollfd{.fd = stop_.fd(), .events = POLLIN, .revents = 0}};
    if ((poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR) ||
        (ready[0].revents & (POLLERR | POLLNVAL)) != 0) {
      Fail(Error::FromErrno(errno, "cannot wait for faults of guest memory"));
      return;
    }
    if (ready[1].revents != 0) {
      return;
    }
    const Status served = ServeFaults(thread, bytes);
    if (!served.ok()) {
      Fail(served.error());  // the others are served all the same: the machine is to end in order
    }
  }
}

Status MemoryFaults::ServeFaults(size_t thread, std::span<uint8_t> buffer) {
  // One at a time: what this thread has read, the other one cannot serve.
  uffd_msg message;
  while (TRY(uffd_.Read({&message, 1})) == 1) {
    if (message.event != UFFD_EVENT_PAGEFAULT) {
      continue;  // none that was asked for
    }
    const std::optional<BlockIndex> page = pages_.PageAt(message.arg.pagefault.address);
    CHECK(page.has_value(), "a fault outside guest memory");
    serving_since_ns_[thread].store(MonotonicNs(), std::memory_order_relaxed);
    const Status served = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0
                              ? ServeWrite(*page)
                              : ServeMissing(*page, buffer);
    serving_since_ns_[thread].store(0, std::memory_order_relaxed);
    TRY(served);
  }
  return {};
}

Status MemoryFaults::ServeWrite(BlockIndex page) {
  write_faults_.fetch_add(1, std::memory_order_relaxed);
  return residue_.ServeWriteFault(page);
}

void MemoryFaults::Fail(const Error& error) {
  {
    const MutexLock lock(mutex_);
    if (failed_) {
      return;
    }
    failed_ = true;
  }
  changed_.notify_all();
  Log(LogLevel::kError, "guest memory: {}; the machine cannot go on", error.message());
  if (options_.on_failure) {
    options_.on_failure(error);
  }
}

MemoryFaults::Progress MemoryFaults::GetProgress() const {
  const std::shared_ptr<LazyPages> lazy = Lazy();
  const uint64_t now_ns = MonotonicNs();
  Progress progress = {.whole = IsWhole(),
                       .pages_there = pages_.page_count(),
                       .pages = pages_.page_count(),
                       .missing_faults = missing_faults_.load(std::memory_order_relaxed),
                       .write_faults = write_faults_.load(std::memory_order_relaxed),
                       .prefetched_pages = prefetched_pages_.load(std::memory_order_relaxed)};
  if (lazy != nullptr) {
    progress.pages_there = lazy->missing().CountThere();
  }
  for (const std::atomic<uint64_t>& since : serving_since_ns_) {
    const uint64_t since_ns = since.load(std::memory_order_relaxed);
    if (since_ns != 0 && since_ns < now_ns) {
      progress.oldest_fault_ns = std::max(progress.oldest_fault_ns, now_ns - since_ns);
    }
  }
  return progress;
}

Status MemoryFaults::PrepareResidue() {
  if (!uffd_.Has(UFFD_FEATURE_PAGEFAULT_FLAG_WP)) {
    return Error::Make(
        ErrorCode::kUnsupported,
        "this kernel's userfaultfd has no write protection (Linux 5.7 and later do)");
  }
  if (memory_.memfd() >= 0 && !uffd_.Has(UFFD_FEATURE_WP_HUGETLBFS_SHMEM)) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this kernel's userfaultfd cannot write-protect memory in a memfd (Linux "
                       "5.19 and later do)");
  }
  const MutexLock lock(modes_mutex_);
  return AddModes(UFFDIO_REGISTER_MODE_WP);
}

// By touching them: the fault threads do the rest.
void MemoryFaults::FetchMissing(std::span<const Extent> pages) const {
  const std::shared_ptr<LazyPages> lazy = Lazy();
  if (IsWhole() || lazy == nullptr) {
    return;
  }
  for (const Extent& extent : pages) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      const BlockIndex page(extent.first.raw() + i);
      if (!lazy->missing().IsThere(page)) {
        Touch(pages_.Leading({page, 1}).front());
      }
    }
  }
}

Status MemoryFaults::ArmResidue(std::span<const Extent> pages) {
  TRY(PrepareResidue());
  FetchMissing(pages);
  return residue_.Arm(pages);
}

Status MemoryFaults::BeginResidue(ResidueSink& sink, std::span<uint64_t> rewritten) {
  TRY(PrepareResidue());
  residue_.Begin(sink, rewritten);
  return {};
}

Status MemoryFaults::ProtectResidue(std::span<const Extent> pages) {
  FetchMissing(pages);
  return residue_.Protect(pages);
}

Status MemoryFaults::CopyResidueNow(std::span<const Extent> pages) {
  return residue_.CopyNow(pages);
}

Result<bool> MemoryFaults::CopySome() { return residue_.CopySome(); }

Status MemoryFaults::CopyRest() { return residue_.CopyRest(); }

Status MemoryFaults::AbandonResidue() { return residue_.Abandon(); }

}  // namespace pacsvisor
