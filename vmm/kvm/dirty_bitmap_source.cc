#include "vmm/kvm/dirty_bitmap_source.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "vmm/base/align.h"
#include "vmm/base/log.h"
#include "vmm/dirty/bit_words.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kWordPages = 64;  // KVM_CLEAR_DIRTY_LOG goes by whole words
// Cleared at once: KVM holds its lock on the guest's page tables meanwhile, and vCPUs that fault
// wait for it.
constexpr uint64_t kPartPages = 16 * 1024;
// Parts closer than this are cleared by one call: looking at an empty word costs KVM less than a
// call does.
constexpr uint64_t kJoinedGapPages = 1024;

uint64_t ManualProtectFlags(const KvmSystem& system) {
  return static_cast<uint64_t>(std::max(system.Check(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), 0));
}

}  // namespace

DirtyBitmapSource::Clearing DirtyBitmapSource::BestClearing(const KvmSystem& system) {
  const uint64_t flags = ManualProtectFlags(system);
  return (flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0 ? Clearing::kManual
                                                            : Clearing::kGetClears;
}

Result<std::unique_ptr<DirtyBitmapSource>> DirtyBitmapSource::Create(KvmVm& vm, GuestMemory& memory,
                                                                     Clearing clearing,
                                                                     DirtyLogging logging) {
  if (clearing == Clearing::kManual) {
    // Initially set (Linux 5.7): switching the log on protects nothing by itself, Start does it in
    // parts.
    kvm_enable_cap request{};
    request.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
    request.args[0] = ManualProtectFlags(vm.system()) &
                      (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
    if (KvmIoctl(vm.fd(), KVM_ENABLE_CAP, &request) != 0) {
      return Error::FromErrno(errno, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
    }
  }
  return std::unique_ptr<DirtyBitmapSource>(new DirtyBitmapSource(vm, memory, clearing, logging));
}

DirtyBitmapSource::DirtyBitmapSource(KvmVm& vm, GuestMemory& memory, Clearing clearing,
                                     DirtyLogging logging)
    : vm_(vm), memory_(memory), clearing_(clearing), logging_(logging) {
  for (const GuestMemory::HostRange& range : memory.host_ranges()) {
    const uint64_t page_count = range.size_bytes / kPageSizeBytes;
    slots_.push_back({static_cast<uint32_t>(slots_.size()), range.first_block.raw(), page_count,
                      std::vector<uint64_t>(DivideRoundUp(page_count, kWordPages))});
  }
}

Status DirtyBitmapSource::Start() {
  return logging_ == DirtyLogging::kOn ? ForgetLog() : SwitchOn();
}

// Where no vCPU has run, there is nothing to protect: no more than a look at the bits.
Status DirtyBitmapSource::ForgetLog() {
  std::vector<uint64_t> words(DivideRoundUp(memory_.page_count(), kWordPages));
  return Harvest(words);
}

Status DirtyBitmapSource::SwitchOn() {
  Status started = vm_.SetDirtyLogging(memory_, DirtyLogging::kOn);
  logging_ = DirtyLogging::kOn;
  // Every page counts as unwritten and is protected now, whatever the log begins with.
  for (Slot& slot : slots_) {
    if (started.ok() && clearing_ == Clearing::kManual) {
      std::fill(slot.log.begin(), slot.log.end(), ~uint64_t{0});
      started = Clear(slot);
    }
  }
  if (!started.ok()) {
    Stop();
  }
  return started;
}

void DirtyBitmapSource::Stop() {
  const Status stopped = vm_.SetDirtyLogging(memory_, DirtyLogging::kOff);
  logging_ = DirtyLogging::kOff;
  if (!stopped.ok()) {
    Log(LogLevel::kWarning, "the dirty log stays on: {}", stopped.error().message());
  }
}

Status DirtyBitmapSource::Harvest(std::span<uint64_t> words) {
  for (Slot& slot : slots_) {
    TRY(Get(slot, words));
    if (clearing_ == Clearing::kManual) {
      TRY(Clear(slot));
    }
  }
  return {};
}

// Bits that are not cleared stay where they are, and are got again.
Status DirtyBitmapSource::HarvestPaused(std::span<uint64_t> words) {
  for (Slot& slot : slots_) {
    TRY(Get(slot, words));
  }
  return {};
}

Status DirtyBitmapSource::Get(Slot& slot, std::span<uint64_t> words) {
  kvm_dirty_log request{};
  request.slot = slot.number;
  request.dirty_bitmap = slot.log.data();
  if (KvmIoctl(vm_.fd(), KVM_GET_DIRTY_LOG, &request) != 0) {
    return Error::FromErrno(errno, "cannot read the dirty log of memory slot {}", slot.number);
  }
  OrBitsAt(words, slot.first_page, slot.log, slot.page_count);
  return {};
}

// The words of the log that hold bits, in runs of at most kPartPages.
Status DirtyBitmapSource::Clear(const Slot& slot) {
  uint64_t begin = 0;
  uint64_t end = 0;  // of the run that is being made, in pages; empty at first
  for (uint64_t word = 0; word < slot.log.size(); ++word) {
    if (slot.log[word] == 0) {
      continue;
    }
    const uint64_t page = word * kWordPages;
    if (end != 0 && (page - end > kJoinedGapPages || page + kWordPages - begin > kPartPages)) {
      TRY(ClearPart(slot, begin, end));
      end = 0;
    }
    begin = end == 0 ? page : begin;
    end = page + kWordPages;
  }
  return end == 0 ? Status() : ClearPart(slot, begin, end);
}

// The kernel takes a part that ends within a word only where the slot ends there.
Status DirtyBitmapSource::ClearPart(const Slot& slot, uint64_t first_page, uint64_t end_page) {
  kvm_clear_dirty_log request{};
  request.slot = slot.number;
  request.first_page = first_page;
  request.num_pages = static_cast<uint32_t>(std::min(end_page, slot.page_count) - first_page);
  // KVM only reads it; the declaration has no const.
  request.dirty_bitmap = const_cast<uint64_t*>(slot.log.data() + first_page / kWordPages);
  if (KvmIoctl(vm_.fd(), KVM_CLEAR_DIRTY_LOG, &request) != 0) {
    return Error::FromErrno(errno, "cannot clear the dirty log of memory slot {}, pages {} to {}",
                            slot.number, first_page, end_page);
  }
  return {};
}

}  // namespace pacsvisor
