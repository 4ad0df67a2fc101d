// Pages that belong to a snapshot and are copied after the machine runs again, each before its
// first write: they are write-protected (userfaultfd), whoever writes one waits until it is copied.
//
//   Arm       machine runs   protects pages ahead of the pause. A page that is written is let go
//                            and listed: it is of no use any more. This also slows the writer down
//   Begin     in the pause   the instant: what is still protected is of the snapshot, what was
//                            listed is handed back, to be copied in the pause or protected again
//   CopyNow   in the pause   copies pages that are protected, and lets them go
//   Protect   in the pause   more pages of the instant
//   CopySome  machine runs   copies a run that nobody has written yet
//   CopyRest  machine runs   copies what is left, and ends the residue
//   Abandon   any time       lets everything go; the snapshot has failed
//
// Who may write the pages without the kernel noticing must be known: a page that is the target of a
// read in flight (pinned) is copied in the pause, not protected.
// Threads: ServeWriteFault by the fault threads, the rest by one thread at a time, but Abandon,
// which may come from another while CopyRest runs.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/memory/host_pages.h"
#include "vmm/memory/page_set.h"
#include "vmm/memory/user_fault_fd.h"

namespace pacsvisor {

// Takes the pages of the instant. Threads: several at a time. While it is asked, a writer of the
// page stands still: it takes no lock that is held anywhere while guest memory is touched, touches
// none itself, and waits for nobody who does.
class ResidueSink {
 public:
  virtual ~ResidueSink() = default;

  // Where `pages` go: count * 4096 bytes that stay until Landed. Each page is asked for once. A
  // failure fails the residue (CopyRest says so), never the machine.
  virtual Result<std::span<uint8_t>> Reserve(Extent pages) = 0;
  virtual void Landed(Extent pages) = 0;
};

class Residue {
 public:
  // Copied by CopyRest in one go, which a writer of one of them may have to wait for.
  static constexpr uint64_t kRunPages = 16;

  // `uffd` and `pages` outlive it; the memory is registered for write protection before the first
  // call.
  Residue(const UserFaultFd& uffd, const HostPages& pages);

  // On failure of any of these nothing stays protected. Pages that are protected already are left
  // as they are.
  Status Arm(std::span<const Extent> pages) EXCLUDES(mutex_);
  // ORs the listed pages into `rewritten` (DirtyBitmap::TakeInto's form). `sink` stays until
  // CopyRest or Abandon has returned.
  void Begin(ResidueSink& sink, std::span<uint64_t> rewritten) EXCLUDES(mutex_);
  Status Protect(std::span<const Extent> pages) EXCLUDES(mutex_);
  // Those of `pages` that are protected; the others are left alone.
  Status CopyNow(std::span<const Extent> pages) EXCLUDES(mutex_);
  // False: nothing is left, or the residue has failed. CopyRest follows.
  Result<bool> CopySome() EXCLUDES(mutex_);
  // The first failure of the sink, or kCancelled when abandoned: then some pages are missing.
  Status CopyRest() EXCLUDES(mutex_);
  // Returns when the sink is not in use any more.
  Status Abandon() EXCLUDES(mutex_);

  // A thread waits to write `page`. Errors are the kernel's: the thread waits for ever.
  Status ServeWriteFault(BlockIndex page) EXCLUDES(mutex_);

  uint64_t CountProtected() const EXCLUDES(mutex_);

 private:
  enum class Mode { kIdle, kArmed, kCopying };

  Status ProtectMore(std::span<const Extent> pages) EXCLUDES(mutex_);
  // Those of `pages` that were not pending yet.
  std::vector<Extent> AddPending(std::span<const Extent> pages) EXCLUDES(mutex_);
  // The first protected run in the range is this thread's to copy.
  std::optional<Extent> TakeRun(uint64_t from, uint64_t end) EXCLUDES(mutex_);
  // Copies pages that this thread has moved from pending_ to copying_, and lets them go.
  Status CopyAndRelease(Extent taken) EXCLUDES(mutex_);
  Status CopyOut(ResidueSink& sink, Extent taken) const;
  Status Unprotect(Extent pages) const;
  Status ReleasePending() EXCLUDES(mutex_);
  bool IsBeingCopied(BlockIndex page) const REQUIRES(mutex_);

  // Constant after construction.
  const UserFaultFd& uffd_;
  const HostPages& pages_;
  // Guarded. Nobody who holds it touches guest memory.
  mutable Mutex mutex_;
  std::condition_variable_any copied_;
  Mode mode_ GUARDED_BY(mutex_) = Mode::kIdle;
  PageSet pending_ GUARDED_BY(mutex_);               // protected, not copied
  PageSet rewritten_ GUARDED_BY(mutex_);             // listed while armed
  std::vector<Extent> copying_ GUARDED_BY(mutex_);   // one a thread
  ResidueSink* sink_ GUARDED_BY(mutex_) = nullptr;   // set while copying
  std::optional<Error> failure_ GUARDED_BY(mutex_);  // the sink's first
  // The thread that copies: where CopySome goes on.
  uint64_t next_ = 0;
};

}  // namespace pacsvisor
