#include "vmm/memory/residue.h"

#include <algorithm>
#include <atomic>

#include "vmm/base/linux_abi.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kReleasePages = 512;

// Guest memory is read while others write other pages of it, unordered as ever; by an instruction
// that the thread sanitizer does not see: it knows nothing of write protection.
void CopyFromGuest(uint8_t* to, const uint8_t* from, size_t size_bytes) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size_bytes) : : "memory");
}

// Makes the page tables know each page, without a change to what it holds, also when somebody else
// writes it now. Reading would do for single pages, but could map the huge zero page, from which
// kernels of that age lose the protection when they split it.
void Populate(std::span<uint8_t> bytes) {
  for (size_t offset = 0; offset < bytes.size(); offset += kPageSizeBytes) {
    asm volatile("lock orb $0, %0" : "+m"(bytes[offset]));
  }
}

}  // namespace

Residue::Residue(const UserFaultFd& uffd, const HostPages& pages)
    : uffd_(uffd), pages_(pages), pending_(pages.page_count()), rewritten_(pages.page_count()) {}

uint64_t Residue::CountProtected() const {
  const MutexLock lock(mutex_);
  return pending_.size();
}

Status Residue::Arm(std::span<const Extent> pages) {
  {
    const MutexLock lock(mutex_);
    CHECK(mode_ != Mode::kCopying, "the residue of the last snapshot is not copied yet");
    mode_ = Mode::kArmed;
  }
  return ProtectMore(pages);
}

void Residue::Begin(ResidueSink& sink, std::span<uint64_t> rewritten) {
  const MutexLock lock(mutex_);
  CHECK(mode_ != Mode::kCopying, "the residue of the last snapshot is not copied yet");
  const std::span<const uint64_t> listed = rewritten_.words();
  CHECK(rewritten.size() == listed.size(), "{} words for {}", rewritten.size(), listed.size());
  if (!rewritten_.empty()) {
    for (size_t word = 0; word < listed.size(); ++word) {
      rewritten[word] |= listed[word];
    }
    rewritten_ = PageSet(pages_.page_count());
  }
  next_ = 0;
  mode_ = Mode::kCopying;
  sink_ = &sink;
  failure_.reset();
}

Status Residue::Protect(std::span<const Extent> pages) {
  {
    const MutexLock lock(mutex_);
    CHECK(mode_ == Mode::kCopying, "pages of no instant");
  }
  return ProtectMore(pages);
}

std::vector<Extent> Residue::AddPending(std::span<const Extent> pages) {
  std::vector<Extent> added;
  added.reserve(pages.size());
  const MutexLock lock(mutex_);
  for (const Extent& extent : pages) {
    const uint64_t end = extent.first.raw() + extent.count;
    uint64_t from = extent.first.raw();
    while (const std::optional<Extent> gap = pending_.NextGap(from, end, extent.count)) {
      pending_.Add(*gap);
      rewritten_.Remove(*gap);
      added.push_back(*gap);
      from = gap->first.raw() + gap->count;
    }
  }
  return added;
}

Status Residue::ProtectMore(std::span<const Extent> pages) {
  const bool populate = !uffd_.Has(kUffdFeatureWpUnpopulated);
  // Listed first, protected then: a fault on a page that is not listed would let it go.
  for (const Extent& extent : AddPending(pages)) {
    const Status done = pages_.ForEach(extent, [&](Extent, std::span<uint8_t> bytes) -> Status {
      if (populate) {
        Populate(bytes);
      }
      return uffd_.Protect(bytes);
    });
    if (!done.ok()) {
      const Status abandoned = Abandon();
      return done.error();
    }
  }
  return {};
}

std::optional<Extent> Residue::TakeRun(uint64_t from, uint64_t end) {
  const MutexLock lock(mutex_);
  if (mode_ != Mode::kCopying || failure_.has_value()) {
    return std::nullopt;
  }
  const std::optional<Extent> run = pending_.NextRun(from, end, kRunPages);
  if (run.has_value()) {
    pending_.Remove(*run);
    copying_.push_back(*run);
  }
  return run;
}

Status Residue::CopyNow(std::span<const Extent> pages) {
  for (const Extent& extent : pages) {
    const uint64_t end = extent.first.raw() + extent.count;
    while (const std::optional<Extent> run = TakeRun(extent.first.raw(), end)) {
      TRY(CopyAndRelease(*run));
    }
  }
  return {};
}

Result<bool> Residue::CopySome() {
  const std::optional<Extent> run = TakeRun(next_, pages_.page_count());
  if (!run.has_value()) {
    return false;
  }
  next_ = run->first.raw() + run->count;
  TRY(CopyAndRelease(*run));
  return true;
}

Status Residue::CopyRest() {
  while (TRY(CopySome())) {
  }
  TRY(ReleasePending());  // pages are left only when this has failed
  const MutexLock lock(mutex_);
  while (!copying_.empty()) {
    copied_.wait(mutex_);
  }
  if (mode_ != Mode::kCopying) {
    return Error::Make(ErrorCode::kCancelled, "the snapshot's residue was abandoned");
  }
  mode_ = Mode::kIdle;
  sink_ = nullptr;
  if (failure_.has_value()) {
    return *failure_;
  }
  return {};
}

Status Residue::Abandon() {
  {
    const MutexLock lock(mutex_);
    mode_ = Mode::kIdle;
    sink_ = nullptr;
    rewritten_ = PageSet(pages_.page_count());
  }
  TRY(ReleasePending());
  const MutexLock lock(mutex_);
  while (!copying_.empty()) {
    copied_.wait(mutex_);
  }
  return {};
}

// A run at a time: the fault threads need the lock in between.
Status Residue::ReleasePending() {
  uint64_t from = 0;
  while (true) {
    const MutexLock lock(mutex_);
    const std::optional<Extent> run = pending_.NextRun(from, pages_.page_count(), kReleasePages);
    if (!run.has_value()) {
      return {};
    }
    pending_.Remove(*run);
    TRY(Unprotect(*run));
    from = run->first.raw() + run->count;
  }
}

bool Residue::IsBeingCopied(BlockIndex page) const {
  return std::any_of(copying_.begin(), copying_.end(), [page](const Extent& extent) {
    return page >= extent.first && page.raw() - extent.first.raw() < extent.count;
  });
}

Status Residue::ServeWriteFault(BlockIndex page) {
  const Extent taken = {page, 1};
  {
    const MutexLock lock(mutex_);
    if (IsBeingCopied(page)) {
      return {};  // whoever copies it wakes the thread
    }
    const bool pending = pending_.Contains(page);
    if (pending) {
      pending_.Remove(taken);
    }
    if (mode_ != Mode::kCopying || !pending || failure_.has_value()) {
      if (pending && mode_ == Mode::kArmed) {
        rewritten_.Add(taken);
      }
      // Under the lock: after it, the page may be protected anew.
      return Unprotect(taken);
    }
    copying_.push_back(taken);
  }
  return CopyAndRelease(taken);
}

Status Residue::CopyAndRelease(Extent taken) {
  ResidueSink* sink = nullptr;
  {
    const MutexLock lock(mutex_);
    sink = sink_;  // none: abandoned since
  }
  const Status copied = sink == nullptr ? Status() : CopyOut(*sink, taken);
  const Status released = Unprotect(taken);
  const MutexLock lock(mutex_);
  if (!copied.ok() && !failure_.has_value()) {
    failure_ = copied.error();
  }
  copying_.erase(std::find(copying_.begin(), copying_.end(), taken));
  copied_.notify_all();
  return released;
}

Status Residue::CopyOut(ResidueSink& sink, Extent taken) const {
  const std::span<uint8_t> room = TRY(sink.Reserve(taken));
  CHECK(room.size() == taken.count * kPageSizeBytes, "{} bytes for {} pages", room.size(),
        taken.count);
  size_t offset = 0;
  TRY(pages_.ForEach(taken, [&](Extent, std::span<uint8_t> bytes) -> Status {
    CopyFromGuest(room.data() + offset, bytes.data(), bytes.size());
    offset += bytes.size();
    return {};
  }));
  sink.Landed(taken);
  return {};
}

Status Residue::Unprotect(Extent pages) const {
  return pages_.ForEach(
      pages, [this](Extent, std::span<uint8_t> bytes) -> Status { return uffd_.Unprotect(bytes); });
}

}  // namespace pacsvisor
