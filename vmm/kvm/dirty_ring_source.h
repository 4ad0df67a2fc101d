// A vCPU's writes by KVM's dirty rings: each vCPU lists the pages it writes in a ring of its own,
// shared with user space (Linux, Documentation/virt/kvm/api.rst, KVM_CAP_DIRTY_LOG_RING). A harvest
// costs what was written, whatever the memory size; in return the rings stand from the first vCPU
// to the last, and a vCPU whose ring is full leaves guest code.
//
// No thread reaps the rings. Whoever finds one full is its vCPU's own thread (ServeFull), which
// moves the entries into a bitmap and goes on: some microseconds each time that tens of thousands
// of pages have been written, and nothing at all while nobody writes. A reaper would wake up for
// nothing on idle machines, and busy ones would overtake it all the same.
//
// Entries are moved, then handed back (KVM_RESET_DIRTY_RINGS, which protects their pages anew),
// then copied by whoever harvests: a write behind the reset is a new entry.
//
// On processors that buffer dirty addresses themselves (Intel's PML), what a *running* vCPU wrote
// last may come with the next harvest. One outside guest code has nothing left.
//
// A ring that was filled to its last entry may have overrun: the kernel keeps a reserve, which an
// interpreter of guest code (paravirtual KVM) can pass. Then all of memory counts as written and is
// protected anew. (An overrun by nearly a whole ring leaves KVM no room; ServeFull tells that from
// the exits it goes on to make.)
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "vmm/base/mapping.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/dirty/dirty_bitmap.h"
#include "vmm/dirty/dirty_source.h"
#include "vmm/kvm/dirty_ring.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class DirtyRingSource final : public DirtySource {
 public:
  // 512 KiB each: a vCPU that writes new pages as fast as it can fills one in about a tenth of a
  // second.
  static constexpr uint32_t kDefaultEntries = 32 * 1024;

  // A VM created with rings of `entries`, with its memory. Both outlive the source, the source
  // outlives the vCPUs' threads.
  DirtyRingSource(KvmVm& vm, GuestMemory& memory, uint32_t entries);

  // Before it runs; in the order of their ids, from 0 on.
  Status AddVcpu(const KvmVcpu& vcpu);
  // On the vCPU's thread, after KVM_EXIT_DIRTY_RING_FULL; then it may run again. Waits at most for
  // a harvest in progress, which waits for nobody.
  Status ServeFull(VcpuId vcpu);

  std::string_view name() const override { return "ring"; }
  Status Start() override;
  void Stop() override;
  Status Harvest(std::span<uint64_t> words) override;
  Status HarvestPaused(std::span<uint64_t> words) override;

 private:
  struct Ring {
    Mapping mapping;
    DirtyRing ring;
    uint32_t fruitless_exits = 0;  // in a row
  };

  void Collect(DirtyRing& ring) REQUIRES(mutex_);
  void CollectAll() REQUIRES(mutex_);
  void MarkCollected(const DirtyRingPage& page) REQUIRES(mutex_);
  bool AnyOutstanding() REQUIRES(mutex_);
  Status ResetAll() REQUIRES(mutex_);
  Status ProtectAnew() REQUIRES(mutex_);
  void Take(std::span<uint64_t> words) REQUIRES(mutex_);

  KvmVm& vm_;
  GuestMemory& memory_;
  const uint32_t entries_;
  Mutex mutex_;  // a leaf; serialises resets as well
  std::vector<Ring> rings_ GUARDED_BY(mutex_);
  bool overrun_ GUARDED_BY(mutex_) = false;
  DirtyBitmap collected_ GUARDED_BY(mutex_);
  // Used anew by each call.
  std::vector<DirtyRingPage> pages_ GUARDED_BY(mutex_);
  std::vector<uint64_t> taken_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
