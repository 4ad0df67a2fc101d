#include "vmm/kvm/dirty_ring_source.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "vmm/base/log.h"
#include "vmm/dirty/bit_words.h"

namespace pacsvisor {
namespace {

// In a row, before it is KVM that does not go on.
constexpr uint32_t kFruitlessLimit = 1000;

}  // namespace

DirtyRingSource::DirtyRingSource(KvmVm& vm, GuestMemory& memory, uint32_t entries)
    : vm_(vm),
      memory_(memory),
      entries_(entries),
      collected_(memory.page_count()),
      taken_(collected_.word_count()) {
  pages_.reserve(entries);
}

Status DirtyRingSource::AddVcpu(const KvmVcpu& vcpu) {
  const MutexLock lock(mutex_);
  CHECK(vcpu.id().raw() == rings_.size(), "vCPU {} as number {}", vcpu.id(), rings_.size());
  Mapping mapping = TRY(vcpu.MapDirtyRing(entries_));
  // KVM lays the ring's entries there.
  auto* const entries = reinterpret_cast<kvm_dirty_gfn*>(mapping.data());
  rings_.push_back({std::move(mapping), DirtyRing({entries, entries_})});
  return {};
}

Status DirtyRingSource::ServeFull(VcpuId vcpu) {
  const MutexLock lock(mutex_);
  CHECK(vcpu.raw() < rings_.size(), "vCPU {} of {}", vcpu, rings_.size());
  Ring& ring = rings_[vcpu.raw()];
  Collect(ring.ring);
  const bool found = !pages_.empty();
  // Need not be whole: what is left is handed back by the next harvest, before it returns.
  const int count = KvmIoctl(vm_.fd(), KVM_RESET_DIRTY_RINGS);
  if (count < 0) {
    return Error::FromErrno(errno, "KVM_RESET_DIRTY_RINGS by vCPU {}", vcpu);
  }
  ring.fruitless_exits = found || count > 0 ? 0 : ring.fruitless_exits + 1;
  if (ring.fruitless_exits > kFruitlessLimit) {
    return Error::Make(ErrorCode::kIo,
                       "the dirty ring of vCPU {} stays full: this host's KVM is at fault, use "
                       "tracking = \"bitmap\"",
                       vcpu);
  }
  return {};
}

Status DirtyRingSource::Start() {
  const MutexLock lock(mutex_);
  Status started = ProtectAnew();
  if (!started.ok()) {
    (void)vm_.SetDirtyLogging(memory_, DirtyLogging::kOff);
  }
  return started;
}

void DirtyRingSource::Stop() {
  const MutexLock lock(mutex_);
  Status stopped = vm_.SetDirtyLogging(memory_, DirtyLogging::kOff);
  // Nothing is added any more: what is there is nobody's.
  CollectAll();
  if (stopped.ok()) {
    stopped = ResetAll();
  }
  Take(taken_);
  overrun_ = false;
  if (!stopped.ok()) {
    Log(LogLevel::kWarning, "the dirty log stays on: {}", stopped.error().message());
  }
}

Status DirtyRingSource::Harvest(std::span<uint64_t> words) {
  const MutexLock lock(mutex_);
  CollectAll();
  Status watched = ResetAll();
  if (watched.ok() && overrun_) {
    watched = ProtectAnew();
  }
  if (overrun_) {
    collected_.MarkAll();
  }
  Take(words);
  if (!watched.ok()) {
    collected_.Return(taken_);  // later writes to these may go unseen: again next time
    return watched;
  }
  overrun_ = false;
  return {};
}

// What is not handed back stays in the ring, unwatched: again next time.
Status DirtyRingSource::HarvestPaused(std::span<uint64_t> words) {
  const MutexLock lock(mutex_);
  CollectAll();
  if (overrun_) {
    collected_.MarkAll();
  }
  Take(words);
  if (overrun_ || AnyOutstanding()) {
    collected_.Return(taken_);
  }
  return {};
}

void DirtyRingSource::CollectAll() {
  for (Ring& ring : rings_) {
    Collect(ring.ring);
  }
}

void DirtyRingSource::Collect(DirtyRing& ring) {
  pages_.clear();
  if (!ring.Collect(pages_)) {
    overrun_ = true;
  }
  for (const DirtyRingPage& page : pages_) {
    MarkCollected(page);
  }
}

void DirtyRingSource::MarkCollected(const DirtyRingPage& page) {
  const std::vector<GuestMemory::HostRange>& slots = memory_.host_ranges();
  if (page.slot >= slots.size() || page.offset >= slots[page.slot].size_bytes / kPageSizeBytes) {
    overrun_ = true;  // no page of ours: the ring cannot be relied on
    return;
  }
  collected_.Mark(BlockIndex(slots[page.slot].first_block.raw() + page.offset));
}

bool DirtyRingSource::AnyOutstanding() {
  return std::any_of(rings_.begin(), rings_.end(),
                     [](Ring& ring) { return ring.ring.CountOutstanding() != 0; });
}

// A signal that waits for this thread cuts a reset short (Linux 6.16): as often as it takes.
Status DirtyRingSource::ResetAll() {
  for (uint32_t fruitless = 0; AnyOutstanding();) {
    const int count = KvmIoctl(vm_.fd(), KVM_RESET_DIRTY_RINGS);
    if (count < 0) {
      return Error::FromErrno(errno, "KVM_RESET_DIRTY_RINGS");
    }
    fruitless = count > 0 ? 0 : fruitless + 1;
    if (fruitless > kFruitlessLimit) {
      return Error::Make(ErrorCode::kIo, "KVM does not take dirty ring entries back");
    }
  }
  return {};
}

// KVM protects a slot when its log goes on, not when it is on already.
Status DirtyRingSource::ProtectAnew() {
  TRY(vm_.SetDirtyLogging(memory_, DirtyLogging::kOff));
  return vm_.SetDirtyLogging(memory_, DirtyLogging::kOn);
}

// ORs what was collected into `words`; it is in taken_ as well.
void DirtyRingSource::Take(std::span<uint64_t> words) {
  std::fill(taken_.begin(), taken_.end(), 0);
  collected_.TakeInto(taken_);
  if (words.data() != taken_.data()) {
    OrBitsAt(words, 0, taken_, collected_.block_count());
  }
}

}  // namespace pacsvisor
