// A VM whose vCPUs do nothing but write pages: a few instructions at CPL 3 in long mode, which run
// natively on every KVM, over identity page tables. No devices, no interrupts.
// Threads: the test's, and while writing one a vCPU.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class WritingGuest {
 public:
  // Below this lie code, page tables and lists of pages.
  static constexpr uint64_t kFirstFreeAddress = 16 * kMiB;
  static constexpr size_t kMaxListed = 64 * 1024;  // a power of two
  static constexpr uint32_t kMaxVcpus = 4;

  struct Options {
    uint64_t memory_bytes = 64 * kMiB;  // 6 GiB at most
    uint32_t vcpus = 1;
    uint32_t ring_entries = 0;
    MemoryBacking backing = MemoryBacking::kAnonymous;
    DirtyLogging logging = DirtyLogging::kOff;  // from the first
    std::vector<MemoryRegion> regions;          // instead of those that memory_bytes gives
  };

  // CHECKs that KVM does what every host's does.
  explicit WritingGuest(const Options& options);
  ~WritingGuest();

  KvmSystem& system() { return *system_; }
  KvmVm& vm() { return *vm_; }
  GuestMemory& memory() { return *memory_; }
  KvmVcpu& vcpu(uint32_t number) { return *vcpus_[number]; }
  // Pages of the memory space that may be written: none of the guest's own.
  std::vector<uint64_t> FreePages() const;
  GuestAddress AddressOf(uint64_t page) const;

  // What to do about KVM_EXIT_DIRTY_RING_FULL, on the vCPU's thread.
  void OnRingFull(std::function<void(uint32_t vcpu)> serve) { on_ring_full_ = std::move(serve); }
  uint64_t ring_full_exits() const { return ring_full_exits_.load(); }

  // vCPU `number` writes each of the pages once, in order, on the calling thread. Each write leaves
  // another value.
  void Write(uint32_t number, std::span<const uint64_t> pages);

  // Each vCPU, on a thread of its own, writes at random among `pages` (a power of two, at most
  // kMaxListed), until StopWriting returns.
  void StartWriting(std::span<const uint64_t> pages);
  void StopWriting();
  // Writes since StartWriting, in steps.
  uint64_t written() const { return written_.load(); }

 private:
  void MakePageTables();
  void MakeVcpus(const Options& options);
  void PutList(uint32_t number, std::span<const uint64_t> pages);
  // Runs until the guest says that it is through its list or its share.
  void RunUntilDone(uint32_t number);
  void WriteUntilStopped(uint32_t number);

  std::unique_ptr<KvmSystem> system_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<KvmVm> vm_;
  std::vector<std::unique_ptr<KvmVcpu>> vcpus_;
  std::function<void(uint32_t)> on_ring_full_;
  uint64_t next_value_ = 1;
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> written_ = 0;
  std::atomic<uint64_t> ring_full_exits_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace pacsvisor
