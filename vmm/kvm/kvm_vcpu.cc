#include "vmm/kvm/kvm_vcpu.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "vmm/kvm/kvm_abi.h"
#include "vmm/memory/guest_address.h"

namespace pacsvisor {
namespace {

// Intel SDM volume 4, table 2-2; AMD APM volume 2, 7.7.2: MTRRs enabled, write-back by default; the
// device windows are uncached by KVM and PAT.
constexpr uint32_t kMsrMtrrDefaultType = 0x2ff;
constexpr uint64_t kMtrrEnableWriteBack = (1u << 11) | 6;
constexpr uint32_t kMsrMiscEnable = 0x1a0;
constexpr uint64_t kMiscEnableFastStrings = 1;

}  // namespace

Result<std::unique_ptr<KvmVcpu>> KvmVcpu::Create(const KvmSystem& system, VcpuId id, UniqueFd fd) {
  Mapping mapping =
      TRY(Mapping::MapShared(fd.get(), system.vcpu_mmap_bytes(), PROT_READ | PROT_WRITE));
  return std::unique_ptr<KvmVcpu>(new KvmVcpu(system, id, std::move(fd), std::move(mapping)));
}

KvmVcpu::KvmVcpu(const KvmSystem& system, VcpuId id, UniqueFd fd, Mapping mapping)
    : system_(system),
      id_(id),
      fd_(std::move(fd)),
      mapping_(std::move(mapping)),
      // KVM lays its kvm_run at the start of the vCPU's mapping.
      run_(reinterpret_cast<kvm_run*>(mapping_.data())) {}

Status KvmVcpu::SetCpuid(const std::vector<kvm_cpuid_entry2>& entries) {
  KvmCpuidArray cpuid(entries);
  readable_msrs_.clear();
  if (KvmIoctl(fd_.get(), kKvmSetCpuid2, cpuid.request()) != 0) {
    return Error::FromErrno(errno, "KVM_SET_CPUID2 of {} entries on vCPU {}", entries.size(), id_);
  }
  return {};
}

Result<std::vector<kvm_cpuid_entry2>> KvmVcpu::GetCpuid() const {
  KvmCpuidArray cpuid(kMaxCpuidEntries);
  if (KvmIoctl(fd_.get(), kKvmGetCpuid2, cpuid.request()) != 0) {
    return Error::FromErrno(errno, "KVM_GET_CPUID2 on vCPU {}", id_);
  }
  return cpuid.entries();
}

Result<uint32_t> KvmVcpu::TscKhz() const {
  const int khz = KvmIoctl(fd_.get(), KVM_GET_TSC_KHZ);
  if (khz < 0) {
    return Error::FromErrno(errno, "KVM_GET_TSC_KHZ on vCPU {}", id_);
  }
  return static_cast<uint32_t>(khz);
}

std::optional<uint64_t> KvmVcpu::TscOffset() const {
  uint64_t offset = 0;
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uintptr_t>(&offset);  // KVM takes host addresses as numbers
  if (KvmIoctl(fd_.get(), KVM_GET_DEVICE_ATTR, &attribute) != 0) {
    return std::nullopt;
  }
  return offset;
}

Status KvmVcpu::SetTscOffset(uint64_t offset) {
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uintptr_t>(&offset);  // KVM takes host addresses as numbers
  if (KvmIoctl(fd_.get(), KVM_SET_DEVICE_ATTR, &attribute) != 0) {
    return Error::FromErrno(errno, "cannot set the TSC offset of vCPU {}", id_);
  }
  return {};
}

KvmVcpu::RunResult KvmVcpu::Run() {
  if (::ioctl(fd_.get(), KVM_RUN, 0) == 0) {
    return RunResult::kExit;
  }
  // EAGAIN: a processor that waits for its start-up IPI was woken; run it again.
  return errno == EINTR || errno == EAGAIN ? RunResult::kInterrupted : RunResult::kFailed;
}

void KvmVcpu::RequestExit() const {
  std::atomic_ref(run_->immediate_exit).store(1, std::memory_order_release);
}

void KvmVcpu::ClearExitRequest() const {
  std::atomic_ref(run_->immediate_exit).store(0, std::memory_order_relaxed);
}

bool KvmVcpu::ExitRequested() const {
  return std::atomic_ref(run_->immediate_exit).load(std::memory_order_acquire) != 0;
}

std::span<uint8_t> KvmVcpu::io_data() {
  const size_t size_bytes = static_cast<size_t>(run_->io.size) * run_->io.count;
  CHECK(run_->io.data_offset <= mapping_.size_bytes() &&
            size_bytes <= mapping_.size_bytes() - run_->io.data_offset,
        "KVM's port data at {}+{}", uint64_t{run_->io.data_offset}, size_bytes);
  return {mapping_.data() + run_->io.data_offset, size_bytes};
}

Result<Mapping> KvmVcpu::MapDirtyRing(uint32_t entries) const {
  return Mapping::MapShared(fd_.get(), entries * sizeof(kvm_dirty_gfn), PROT_READ | PROT_WRITE,
                            KVM_DIRTY_LOG_PAGE_OFFSET * kPageSizeBytes);
}

Result<kvm_regs> KvmVcpu::GetRegisters() const {
  kvm_regs registers{};
  if (KvmIoctl(fd_.get(), KVM_GET_REGS, &registers) != 0) {
    return Error::FromErrno(errno, "KVM_GET_REGS on vCPU {}", id_);
  }
  return registers;
}

Status KvmVcpu::SetRegisters(const kvm_regs& registers) {
  if (KvmIoctl(fd_.get(), KVM_SET_REGS, &registers) != 0) {
    return Error::FromErrno(errno, "KVM_SET_REGS on vCPU {}", id_);
  }
  return {};
}

Result<kvm_sregs> KvmVcpu::GetSpecialRegisters() const {
  kvm_sregs registers{};
  if (KvmIoctl(fd_.get(), KVM_GET_SREGS, &registers) != 0) {
    return Error::FromErrno(errno, "KVM_GET_SREGS on vCPU {}", id_);
  }
  return registers;
}

Status KvmVcpu::SetSpecialRegisters(const kvm_sregs& registers) {
  if (KvmIoctl(fd_.get(), KVM_SET_SREGS, &registers) != 0) {
    return Error::FromErrno(errno, "KVM_SET_SREGS on vCPU {}", id_);
  }
  return {};
}

Status KvmVcpu::SetBootMsrs() {
  const auto set = [&](uint32_t index, uint64_t value) {
    OneMsr request;
    request.entry = {.index = index, .reserved = 0, .data = value};
    return KvmIoctl(fd_.get(), kKvmSetMsrs, &request);
  };
  if (set(kMsrMtrrDefaultType, kMtrrEnableWriteBack) != 1) {
    return Error::FromErrno(errno, "cannot set the MTRR default type of vCPU {}", id_);
  }
  set(kMsrMiscEnable, kMiscEnableFastStrings);  // an Intel register: elsewhere refused, not needed
  return {};
}

void KvmVcpu::NotifyPaused() {
  const int result = KvmIoctl(fd_.get(), KVM_KVMCLOCK_CTRL);
  CHECK(result == 0 || errno == EINVAL || errno == ENOTTY, "KVM_KVMCLOCK_CTRL: errno {}", errno);
}

}  // namespace pacsvisor
