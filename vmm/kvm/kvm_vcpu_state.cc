// Saving and loading a vCPU. The order is part of the contract: DESIGN.md, sections 6.3 and 9.
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "vmm/kvm/kvm_abi.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/state/object_field.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kKvmVcpuStateVersion = 1;
constexpr uint32_t kMsrTsc = 0x10;
constexpr uint32_t kMsrTscDeadline = 0x6e0;
constexpr size_t kMaxSavedMsrs = 4096;
constexpr size_t kMaxXsaveBytes = 64 * 1024;

// As stored: index and value, little-endian, in the order of KVM's list.
struct SavedMsr {
  uint64_t index;
  uint64_t value;
};
static_assert(sizeof(SavedMsr) == 16);

template <typename T>
Result<T> GetObject(int fd, unsigned long request, std::string_view name) {
  T object{};
  if (KvmIoctl(fd, request, &object) != 0) {
    return Error::FromErrno(errno, "{}", name);
  }
  return object;
}

template <typename T>
Status SaveWith(int fd, unsigned long request, StateNode& node, std::string_view name) {
  SaveObject(node, name, TRY(GetObject<T>(fd, request, name)));
  return {};
}

template <typename T>
Status LoadWith(int fd, unsigned long request, const StateNode& node, std::string_view name) {
  T object;
  TRY(LoadObject(node, name, object));
  if (KvmIoctl(fd, request, &object) != 0) {
    return Error::FromErrno(errno, "this host's KVM refuses the saved {}", name);
  }
  return {};
}

// A register that this host's KVM did not take: harmless only at its reset value, which is 0 for
// all that KVM lists, or where it has the value and is read-only.
Status AcceptRefusedMsr(int fd, const SavedMsr& msr) {
  if (msr.value == 0) {
    return {};
  }
  OneMsr current;
  current.entry.index = static_cast<uint32_t>(msr.index);
  if (KvmIoctl(fd, kKvmGetMsrs, &current) == 1 && current.entry.data == msr.value) {
    return {};
  }
  return Error::Make(ErrorCode::kUnsupported,
                     "this host's KVM refuses MSR {:#x} = {:#x} of the saved machine", msr.index,
                     msr.value);
}

}  // namespace

Status KvmVcpu::Save(StateNode& node) const {
  const int fd = fd_.get();
  node.SetVersion(kKvmVcpuStateVersion);
  node.SetU64("id", id_.raw());
  // KVM_GET_MP_STATE applies a pending INIT or start-up IPI: first.
  TRY(SaveWith<kvm_mp_state>(fd, KVM_GET_MP_STATE, node, "mp_state"));
  TRY(SaveWith<kvm_regs>(fd, KVM_GET_REGS, node, "regs"));
  TRY(SaveSpecialRegisters(node));
  TRY(SaveXsave(node));
  // A processor without XSAVE has no XCR0; KVM then has the calls neither.
  if (system_.Check(KVM_CAP_XCRS) > 0) {
    TRY(SaveWith<kvm_xcrs>(fd, KVM_GET_XCRS, node, "xcrs"));
  }
  TRY(SaveWith<kvm_debugregs>(fd, KVM_GET_DEBUGREGS, node, "debugregs"));
  // TSC_DEADLINE before the local APIC: reading it afterwards could miss a timer that fired
  // between.
  TRY(SaveMsrs(node));
  TRY(SaveWith<kvm_lapic_state>(fd, KVM_GET_LAPIC, node, "lapic"));
  const std::vector<kvm_cpuid_entry2> cpuid = TRY(GetCpuid());
  // Trivially copyable entries as bytes.
  node.SetBytes("cpuid", {reinterpret_cast<const uint8_t*>(cpuid.data()),
                          cpuid.size() * sizeof(kvm_cpuid_entry2)});
  node.SetU64("tsc_khz", TRY(TscKhz()));
  TRY(SaveWith<kvm_vcpu_events>(fd, KVM_GET_VCPU_EVENTS, node, "events"));
  return {};
}

Status KvmVcpu::LoadCpu(const StateNode& node) {
  TRY(node.Version(kKvmVcpuStateVersion));
  const std::span<const uint8_t> bytes = TRY(node.BytesOf("cpuid"));
  if (bytes.size() % sizeof(kvm_cpuid_entry2) != 0 ||
      bytes.size() / sizeof(kvm_cpuid_entry2) > 256) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: CPUID of {} bytes", bytes.size());
  }
  std::vector<kvm_cpuid_entry2> cpuid(bytes.size() / sizeof(kvm_cpuid_entry2));
  std::memcpy(cpuid.data(), bytes.data(), bytes.size());
  TRY(SetCpuid(cpuid));

  const auto saved_khz = TRY(node.Get<uint32_t>("tsc_khz"));
  const uint32_t host_khz = TRY(TscKhz());
  const uint64_t difference = saved_khz > host_khz ? saved_khz - host_khz : host_khz - saved_khz;
  // KVM tolerates 250 ppm (its tsc_tolerance_ppm); beyond that it would have to scale.
  if (saved_khz != 0 && difference * 1'000'000 > uint64_t{250} * saved_khz &&
      KvmIoctl(fd_.get(), KVM_SET_TSC_KHZ, saved_khz) != 0) {
    return Error::Make(ErrorCode::kUnsupported,
                       "the saved machine's TSC runs at {} kHz, this host's at {} kHz, and its KVM "
                       "cannot scale it: restore on a host of that frequency, or with --cold",
                       saved_khz, host_khz);
  }
  return {};
}

Status KvmVcpu::LoadRegisters(const StateNode& node) {
  const int fd = fd_.get();
  TRY(LoadSpecialRegisters(node));
  // A host that has XCR0 insists on it; one that has not refuses a state that brings it.
  if (system_.Check(KVM_CAP_XCRS) > 0 || node.Has("xcrs")) {
    TRY(LoadWith<kvm_xcrs>(fd, KVM_SET_XCRS, node, "xcrs"));
  }
  TRY(LoadXsave(node));
  TRY(LoadWith<kvm_regs>(fd, KVM_SET_REGS, node, "regs"));
  TRY(LoadWith<kvm_debugregs>(fd, KVM_SET_DEBUGREGS, node, "debugregs"));
  TRY(LoadWith<kvm_lapic_state>(fd, KVM_SET_LAPIC, node, "lapic"));
  TRY(LoadMsrs(node));
  TRY(LoadWith<kvm_vcpu_events>(fd, KVM_SET_VCPU_EVENTS, node, "events"));
  TRY(LoadWith<kvm_mp_state>(fd, KVM_SET_MP_STATE, node, "mp_state"));
  return {};
}

Status KvmVcpu::SaveSpecialRegisters(StateNode& node) const {
  if (system_.Check(KVM_CAP_SREGS2) > 0) {
    return SaveWith<kvm_sregs2>(fd_.get(), KVM_GET_SREGS2, node, "sregs2");
  }
  return SaveWith<kvm_sregs>(fd_.get(), KVM_GET_SREGS, node, "sregs");
}

Status KvmVcpu::LoadSpecialRegisters(const StateNode& node) {
  if (node.Has("sregs2")) {
    return LoadWith<kvm_sregs2>(fd_.get(), KVM_SET_SREGS2, node, "sregs2");
  }
  return LoadWith<kvm_sregs>(fd_.get(), KVM_SET_SREGS, node, "sregs");
}

Status KvmVcpu::SaveXsave(StateNode& node) const {
  const int size_bytes = system_.Check(KVM_CAP_XSAVE2);
  const bool large = size_bytes > static_cast<int>(kKvmXsaveBytes);
  std::vector<uint8_t> xsave(large ? static_cast<size_t>(size_bytes) : kKvmXsaveBytes);
  if (KvmIoctl(fd_.get(), large ? kKvmGetXsave2 : kKvmGetXsave, xsave.data()) != 0) {
    return Error::FromErrno(errno, "KVM_GET_XSAVE");
  }
  node.SetBytes("xsave", xsave);
  return {};
}

Status KvmVcpu::LoadXsave(const StateNode& node) {
  const std::span<const uint8_t> saved = TRY(node.BytesOf("xsave"));
  const size_t host_bytes =
      std::max(static_cast<size_t>(std::max(system_.Check(KVM_CAP_XSAVE2), 0)), kKvmXsaveBytes);
  if (saved.size() < kKvmXsaveBytes || saved.size() > kMaxXsaveBytes || saved.size() > host_bytes) {
    return Error::Make(ErrorCode::kUnsupported,
                       "the saved vector state has {} bytes, this host's KVM takes {}",
                       saved.size(), host_bytes);
  }
  std::vector<uint8_t> xsave(host_bytes);
  std::copy(saved.begin(), saved.end(), xsave.begin());
  if (KvmIoctl(fd_.get(), kKvmSetXsave, xsave.data()) != 0) {
    return Error::FromErrno(errno, "this host's KVM refuses the saved vector state");
  }
  return {};
}

Status KvmVcpu::SaveMsrs(StateNode& node) const {
  // KVM's list names registers that this vCPU's CPUID may not have: a call ends before one of
  // those. They are left out, and not asked for again.
  const std::vector<uint32_t> asked =
      readable_msrs_.empty() ? system_.msr_indices() : readable_msrs_;
  readable_msrs_.clear();
  std::vector<SavedMsr> saved;
  saved.reserve(asked.size());
  ManyMsrs request;
  for (size_t next = 0; next < asked.size();) {
    request.count = static_cast<uint32_t>(std::min<size_t>(asked.size() - next, ManyMsrs::kMost));
    for (uint32_t i = 0; i < request.count; ++i) {
      request.entries[i].index = asked[next + i];
    }
    const int got = KvmIoctl(fd_.get(), kKvmGetMsrs, &request);
    if (got < 0 || static_cast<uint32_t>(got) > request.count) {
      return Error::FromErrno(errno, "KVM_GET_MSRS");
    }
    const auto taken = static_cast<uint32_t>(got);
    for (uint32_t i = 0; i < taken; ++i) {
      saved.push_back({request.entries[i].index, request.entries[i].data});
      readable_msrs_.push_back(request.entries[i].index);
    }
    next += taken < request.count ? taken + 1 : taken;
  }
  // Trivially copyable entries as bytes.
  node.SetBytes("msrs",
                {reinterpret_cast<const uint8_t*>(saved.data()), saved.size() * sizeof(SavedMsr)});
  return {};
}

Status KvmVcpu::LoadMsrs(const StateNode& node) {
  const std::span<const uint8_t> bytes = TRY(node.BytesOf("msrs"));
  if (bytes.size() % sizeof(SavedMsr) != 0 || bytes.size() / sizeof(SavedMsr) > kMaxSavedMsrs) {
    return Error::Make(ErrorCode::kCorrupt, "saved state: MSRs of {} bytes", bytes.size());
  }
  std::vector<SavedMsr> saved(bytes.size() / sizeof(SavedMsr));
  std::memcpy(saved.data(), bytes.data(), bytes.size());
  // The TSC first, TSC_DEADLINE last: a deadline is compared with the TSC when it is set.
  const auto rank = [](const SavedMsr& msr) {
    return msr.index == kMsrTsc ? 0 : msr.index == kMsrTscDeadline ? 2 : 1;
  };
  std::stable_sort(saved.begin(), saved.end(),
                   [&](const SavedMsr& a, const SavedMsr& b) { return rank(a) < rank(b); });
  // A saved deadline of 0 means no timer; written with an armed LVT it would fire at once.
  std::erase_if(saved,
                [](const SavedMsr& msr) { return msr.index == kMsrTscDeadline && msr.value == 0; });
  ManyMsrs request;
  for (size_t next = 0; next < saved.size();) {
    request.count = static_cast<uint32_t>(std::min<size_t>(saved.size() - next, ManyMsrs::kMost));
    for (uint32_t i = 0; i < request.count; ++i) {
      request.entries[i] = {.index = static_cast<uint32_t>(saved[next + i].index),
                            .reserved = 0,
                            .data = saved[next + i].value};
    }
    const int taken = KvmIoctl(fd_.get(), kKvmSetMsrs, &request);
    if (taken < 0 || static_cast<uint32_t>(taken) > request.count) {
      return Error::FromErrno(errno, "KVM_SET_MSRS");
    }
    next += static_cast<uint32_t>(taken);
    if (static_cast<uint32_t>(taken) < request.count) {
      TRY(AcceptRefusedMsr(fd_.get(), saved[next]));
      ++next;
    }
  }
  return {};
}

}  // namespace pacsvisor
