// The one userfaultfd of a machine, which owns its guest memory's faults: pages of a lazy restore
// that are not there yet, and pages of a snapshot that are copied before their next write
// (Residue).
//
// Lazy restore. Whoever touches a page that is not there (a vCPU, a device's thread, the kernel on
// behalf of either) waits until a thread of this has fetched it, verified, with what lies round it.
// In the background the rest follows: the recorded working set first. A snapshot may be taken
// meanwhile: reading a page through GuestMemory fetches it, so that what is captured is never the
// less for it. Pages that are filled here are dirty to nobody.
//
// A page that cannot be fetched ends the machine. The failure is logged and handed to on_failure,
// once, and whoever needs the page waits for good: nobody is ever given a wrong one. The owner
// marks the machine as ended, and either ends the process (exit_group ends waiting threads as
// well), or calls CutOff to have every thread back that waits inside a system call, KVM_RUN among
// them.
//
// A second userfaultfd on guest memory is refused by the kernel, so this excludes tracking by an
// asynchronous one. Of memory in a memfd only what comes in by this process's mapping is seen, and
// its zero pages take memory.
//
// Threads: StartLazy, the residue's calls and the destructor belong to the owner, one at a time
// (CopyRest and AbandonResidue see Residue); the rest any. The threads of this take no lock that is
// held while guest memory is touched, and serve during a pause as well.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/base/token_bucket.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/host_pages.h"
#include "vmm/memory/lazy_pages.h"
#include "vmm/memory/page_source.h"
#include "vmm/memory/residue.h"
#include "vmm/memory/user_fault_fd.h"

namespace pacsvisor {

struct MemoryFaultsOptions {
  uint64_t cluster_pages = 16;   // fetched round a fault; a power of two up to 512
  bool prefetch = true;          // off: only what is touched is fetched
  uint64_t prefetch_pages = 64;  // in one go, which a fault next to it waits for; likewise
  std::optional<uint64_t> prefetch_pages_per_second;  // none: as fast as the source
  uint64_t record_ns = 10'000'000'000;                // of a restore: its working set
  // Called on a thread that faults may wait for: they touch no guest memory and wait for no other
  // thread.
  std::function<void(const Error&)> on_failure;  // once
  std::function<void()> on_whole;                // once a restore, just after IsWhole says so
};

class MemoryFaults {
 public:
  struct Progress {
    bool whole = true;
    uint64_t pages_there = 0;
    uint64_t pages = 0;
    uint64_t missing_faults = 0;  // served since the start, as the next ones
    uint64_t write_faults = 0;
    uint64_t prefetched_pages = 0;
    // For how long a fault has been waiting for its page: large when a disk or a network hangs.
    uint64_t oldest_fault_ns = 0;
  };

  // `uffd` serves one of these at a time, and may serve another one's memory afterwards. `memory`
  // outlives it. Refuses what the kernel lacks for this kind of memory, by name.
  static Result<std::unique_ptr<MemoryFaults>> Create(GuestMemory& memory,
                                                      std::shared_ptr<const UserFaultFd> uffd,
                                                      MemoryFaultsOptions options);
  // Nobody uses guest memory any more. If pages are missing still, it is made inaccessible.
  ~MemoryFaults();

  // Makes memory what `source` says, without fetching it: what was there is dropped. `first`: pages
  // to be fetched first, in this order (what lies outside memory is left out). Nobody uses guest
  // memory until it has returned; no residue is on, nor another restore that is not whole.
  Status StartLazy(std::shared_ptr<PageSource> source, std::vector<Extent> first);
  // Every page is there (always so without a lazy restore), and the source let go.
  bool IsWhole() const { return whole_.load(std::memory_order_acquire); }
  // False: not within the time, or the restore has failed.
  bool WaitUntilWhole(uint64_t timeout_ns) EXCLUDES(mutex_);
  Progress GetProgress() const EXCLUDES(mutex_);
  // The `first` of the next restore: that of this one, then what was waited for beside it in the
  // first record_ns, in that order. Empty without a restore.
  std::vector<Extent> WorkingSet() const EXCLUDES(mutex_);

  // See vmm/memory/residue.h. Pages that are missing still are fetched before they are protected: a
  // page that is dirty never is. kUnsupported where the kernel has no write protection.
  Status PrepareResidue()
      EXCLUDES(mutex_);  // what need not be in the pause; called by the next ones
  Status ArmResidue(std::span<const Extent> pages);
  Status BeginResidue(ResidueSink& sink, std::span<uint64_t> rewritten);
  Status CopyResidueNow(std::span<const Extent> pages);
  Status ProtectResidue(std::span<const Extent> pages);
  Result<bool> CopySome();
  Status CopyRest();
  Status AbandonResidue();

  // The machine has ended and everybody was told why: makes guest memory inaccessible and wakes who
  // waits for it. System calls fail with EFAULT. KVM_RUN fails, or exits as for an access outside
  // memory: a vCPU's thread looks whether the machine has ended before it looks at the exit. A
  // thread that touches memory by its own instructions gets SIGSEGV: it cannot go on without the
  // page.
  void CutOff();

 private:
  static constexpr size_t kFaultThreads = 2;  // one waits for a disk, the other serves
  static constexpr size_t kMaxWorkingSetExtents = 1 << 16;

  MemoryFaults(GuestMemory& memory, std::shared_ptr<const UserFaultFd> uffd, EventFd stop,
               MemoryFaultsOptions options);
  Status CheckFeatures() const;
  Status DropContents() const;
  Status AddModes(uint64_t modes) REQUIRES(modes_mutex_);
  void FetchMissing(std::span<const Extent> pages) const;
  std::shared_ptr<LazyPages> Lazy() const EXCLUDES(mutex_);

  void FaultLoop(size_t thread);
  Status ServeFaults(size_t thread, std::span<uint8_t> buffer);
  Status ServeMissing(BlockIndex page, std::span<uint8_t> buffer);
  Status ServeWrite(BlockIndex page);
  Result<bool> FillRound(LazyPages& lazy, BlockIndex page, std::span<uint8_t> buffer);
  void Record(Extent pages) EXCLUDES(mutex_);

  void PrefetchLoop(LazyPages& lazy, const std::vector<Extent>& first);
  Status Prefetch(LazyPages& lazy, Extent pages, std::span<uint8_t> buffer, TokenBucket* bucket);
  // Waits while faults are being served, and for the rate. False: stop.
  bool WaitForTurn(TokenBucket* bucket) EXCLUDES(mutex_);

  void BecomeWhole(LazyPages& lazy);
  void Fail(const Error& error) EXCLUDES(mutex_);
  void StopThreads();
  void LetGo() EXCLUDES(modes_mutex_);

  // Constant after construction.
  GuestMemory& memory_;
  const std::shared_ptr<const UserFaultFd> uffd_owner_;
  const UserFaultFd& uffd_;
  const HostPages pages_;
  const EventFd stop_;
  const MemoryFaultsOptions options_;
  // Any thread.
  Residue residue_;
  std::atomic<bool> whole_ = true;
  std::atomic<uint64_t> missing_faults_ = 0;
  std::atomic<uint64_t> write_faults_ = 0;
  std::atomic<uint64_t> prefetched_pages_ = 0;
  std::array<std::atomic<uint64_t>, kFaultThreads> serving_since_ns_ = {};  // 0: idle
  // Owned by the owner's thread.
  std::vector<std::thread> fault_threads_;
  std::thread prefetch_thread_;
  // Guarded; taken before mutex_.
  Mutex modes_mutex_;
  uint64_t modes_ GUARDED_BY(modes_mutex_) = 0;  // what memory is registered for
  // Guarded. Nobody who holds it touches guest memory.
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::shared_ptr<LazyPages> lazy_ GUARDED_BY(mutex_);
  std::vector<Extent> working_set_ GUARDED_BY(mutex_);
  uint64_t record_until_ns_ GUARDED_BY(mutex_) = 0;
  unsigned serving_ GUARDED_BY(mutex_) = 0;  // missing faults, by threads of ours
  bool failed_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace pacsvisor
