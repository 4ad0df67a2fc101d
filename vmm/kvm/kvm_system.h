// /dev/kvm itself: what this host's KVM is and can do (Linux, Documentation/virt/kvm/api.rst).
// Threads: any after Open; constant.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

// What stands behind a host's KVM. Snapshots are not exchanged between kinds.
enum class KvmKind {
  kSvm,      // AMD-V
  kVmx,      // Intel VT-x
  kPvm,      // paravirtual: no hardware virtualization; guest code at CPL 0 is interpreted
  kUnknown,  // the module does not say
};

std::string_view KvmKindName(KvmKind kind);  // "svm", "vmx", "pvm", "unknown"
// Read from /sys/module; does not open /dev/kvm.
KvmKind DetectKvmKind();

struct KvmCapability {
  int number;             // KVM_CAP_*
  std::string_view name;  // as in linux/kvm.h
  std::string_view why;   // what pacsvisor does with it
};

class KvmSystem {
 public:
  // What every machine needs; what makes it better when it is there.
  static std::span<const KvmCapability> RequiredCapabilities();
  static std::span<const KvmCapability> OptionalCapabilities();

  // Opens /dev/kvm, refuses an API version other than 12 and names each missing capability.
  static Result<std::unique_ptr<KvmSystem>> Open();

  int fd() const { return fd_.get(); }
  KvmKind kind() const { return kind_; }
  // KVM_CHECK_EXTENSION: 0 when not there.
  int Check(int capability) const;
  size_t vcpu_mmap_bytes() const { return vcpu_mmap_bytes_; }
  // KVM_GET_SUPPORTED_CPUID, and the MSRs to save (KVM_GET_MSR_INDEX_LIST).
  const std::vector<kvm_cpuid_entry2>& supported_cpuid() const { return supported_cpuid_; }
  const std::vector<uint32_t>& msr_indices() const { return msr_indices_; }
  unsigned physical_address_bits() const;

 private:
  explicit KvmSystem(UniqueFd fd) : fd_(std::move(fd)), kind_(DetectKvmKind()) {}
  Status CheckCapabilities() const;
  Status ReadTables();

  UniqueFd fd_;
  KvmKind kind_;
  size_t vcpu_mmap_bytes_ = 0;
  std::vector<kvm_cpuid_entry2> supported_cpuid_;
  std::vector<uint32_t> msr_indices_;
};

// ioctl that goes on after EINTR. Not for KVM_RUN.
int KvmIoctl(int fd, unsigned long request, const void* argument);
int KvmIoctl(int fd, unsigned long request, unsigned long argument = 0);

}  // namespace pacsvisor
