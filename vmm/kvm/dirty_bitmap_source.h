// A vCPU's writes by KVM's dirty bitmap: one bit a page of each memory slot (Linux,
// Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG).
//
// With KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 the bits are got first and cleared afterwards in parts, so
// that no vCPU waits for the whole of memory to be protected anew. Without it (before Linux 5.0)
// one call gets, clears and protects a slot.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "vmm/dirty/dirty_source.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class DirtyBitmapSource final : public DirtySource {
 public:
  // `kGetClears` is what a kernel without the capability does, and may be asked of any.
  enum class Clearing { kManual, kGetClears };
  static Clearing BestClearing(const KvmSystem& system);

  // A VM without dirty rings, with its memory. Both outlive the source. `logging`: as the memory
  // was added. One that is logged from the first is started in no time, before any vCPU has run,
  // and until then costs its vCPUs what one that is started does.
  static Result<std::unique_ptr<DirtyBitmapSource>> Create(
      KvmVm& vm, GuestMemory& memory, Clearing clearing, DirtyLogging logging = DirtyLogging::kOff);

  std::string_view name() const override { return "bitmap"; }
  Status Start() override;
  void Stop() override;
  Status Harvest(std::span<uint64_t> words) override;
  Status HarvestPaused(std::span<uint64_t> words) override;

 private:
  struct Slot {
    uint32_t number;
    uint64_t first_page;  // of the memory space
    uint64_t page_count;
    std::vector<uint64_t> log;  // KVM's bits, from the slot's first page on
  };

  DirtyBitmapSource(KvmVm& vm, GuestMemory& memory, Clearing clearing, DirtyLogging logging);
  Status SwitchOn();
  Status ForgetLog();
  Status Get(Slot& slot, std::span<uint64_t> words);
  Status Clear(const Slot& slot);
  Status ClearPart(const Slot& slot, uint64_t first_page, uint64_t end_page);

  KvmVm& vm_;
  GuestMemory& memory_;
  const Clearing clearing_;
  DirtyLogging logging_;
  std::vector<Slot> slots_;
};

}  // namespace pacsvisor
