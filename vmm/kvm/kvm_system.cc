#include "vmm/kvm/kvm_system.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "vmm/kvm/kvm_abi.h"

namespace pacsvisor {
namespace {

constexpr int kApiVersion = 12;

#define PV_CAPABILITY(name, why) \
  KvmCapability { name, #name, why }

constexpr KvmCapability kRequired[] = {
    PV_CAPABILITY(KVM_CAP_USER_MEMORY, "guest memory"),
    PV_CAPABILITY(KVM_CAP_IRQCHIP, "interrupt controllers in the kernel"),
    PV_CAPABILITY(KVM_CAP_IRQ_ROUTING, "MSI-X routes"),
    PV_CAPABILITY(KVM_CAP_IRQFD, "interrupts from device threads"),
    PV_CAPABILITY(KVM_CAP_IOEVENTFD, "doorbells"),
    PV_CAPABILITY(KVM_CAP_PIT2, "the timer of early boot"),
    PV_CAPABILITY(KVM_CAP_PIT_STATE2, "saving that timer"),
    PV_CAPABILITY(KVM_CAP_SET_TSS_ADDR, "real mode on VT-x"),
    PV_CAPABILITY(KVM_CAP_SET_IDENTITY_MAP_ADDR, "real mode on VT-x"),
    PV_CAPABILITY(KVM_CAP_EXT_CPUID, "choosing the guest's CPU"),
    PV_CAPABILITY(KVM_CAP_MP_STATE, "saving halted processors"),
    PV_CAPABILITY(KVM_CAP_VCPU_EVENTS, "saving pending exceptions"),
    PV_CAPABILITY(KVM_CAP_DEBUGREGS, "saving debug registers"),
    PV_CAPABILITY(KVM_CAP_XSAVE, "saving vector registers"),
    PV_CAPABILITY(KVM_CAP_IMMEDIATE_EXIT, "pausing without a race"),
    PV_CAPABILITY(KVM_CAP_ADJUST_CLOCK, "the guest's clock"),
    PV_CAPABILITY(KVM_CAP_GET_TSC_KHZ, "the guest's clock"),
};

constexpr KvmCapability kOptional[] = {
    PV_CAPABILITY(KVM_CAP_SREGS2, "saving page table roots with PAE"),
    PV_CAPABILITY(KVM_CAP_XCRS, "XSAVE in the guest"),
    PV_CAPABILITY(KVM_CAP_XSAVE2, "vector state of more than 4 KiB"),
    PV_CAPABILITY(KVM_CAP_TSC_DEADLINE_TIMER, "the local APIC's deadline timer"),
    PV_CAPABILITY(KVM_CAP_TSC_CONTROL, "guests of another TSC frequency"),
    PV_CAPABILITY(KVM_CAP_KVMCLOCK_CTRL, "telling the guest of a pause"),
    PV_CAPABILITY(KVM_CAP_VCPU_ATTRIBUTES, "TSC offsets, exact clocks after a restore"),
    PV_CAPABILITY(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "dirty log by bitmap, re-armed in parts"),
    PV_CAPABILITY(KVM_CAP_DIRTY_LOG_RING, "dirty log by ring"),
    PV_CAPABILITY(KVM_CAP_EXIT_ON_EMULATION_FAILURE, "code bytes in fault reports"),
    PV_CAPABILITY(KVM_CAP_X86_DISABLE_EXITS, "idle without exits"),
};

#undef PV_CAPABILITY

Error CannotOpen(int error_number) {
  switch (error_number) {
    case ENOENT:
      return Error::Make(ErrorCode::kNotFound,
                         "there is no /dev/kvm: this host's kernel has no KVM loaded; enable "
                         "virtualization in the firmware and load kvm_amd or kvm_intel, then see "
                         "'pacsvisor doctor'");
    case EACCES:
    case EPERM:
      return Error::Make(ErrorCode::kPermissionDenied,
                         "no rights on /dev/kvm: add this user to the group that owns it (usually "
                         "'usermod -aG kvm USER', then log in again)");
    default:
      return Error::FromErrno(error_number, "cannot open /dev/kvm");
  }
}

}  // namespace

std::string_view KvmKindName(KvmKind kind) {
  switch (kind) {
    case KvmKind::kSvm:
      return "svm";
    case KvmKind::kVmx:
      return "vmx";
    case KvmKind::kPvm:
      return "pvm";
    case KvmKind::kUnknown:
      return "unknown";
  }
  CHECK(false, "kind {}", static_cast<int>(kind));
}

KvmKind DetectKvmKind() {
  constexpr std::pair<const char*, KvmKind> kModules[] = {
      {"/sys/module/kvm_pvm", KvmKind::kPvm},
      {"/sys/module/kvm_amd", KvmKind::kSvm},
      {"/sys/module/kvm_intel", KvmKind::kVmx},
  };
  for (const auto& [path, kind] : kModules) {
    if (::access(path, F_OK) == 0) {
      return kind;
    }
  }
  return KvmKind::kUnknown;
}

int KvmIoctl(int fd, unsigned long request, const void* argument) {
  int result;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

int KvmIoctl(int fd, unsigned long request, unsigned long argument) {
  int result;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

std::span<const KvmCapability> KvmSystem::RequiredCapabilities() { return kRequired; }
std::span<const KvmCapability> KvmSystem::OptionalCapabilities() { return kOptional; }

Result<std::unique_ptr<KvmSystem>> KvmSystem::Open() {
  UniqueFd fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    return CannotOpen(errno);
  }
  const int version = KvmIoctl(fd.get(), KVM_GET_API_VERSION);
  if (version != kApiVersion) {
    return Error::Make(ErrorCode::kUnsupported, "/dev/kvm speaks API version {}, not {}", version,
                       kApiVersion);
  }
  std::unique_ptr<KvmSystem> system(new KvmSystem(std::move(fd)));
  TRY(system->CheckCapabilities());
  TRY(system->ReadTables());
  return system;
}

int KvmSystem::Check(int capability) const {
  return KvmIoctl(fd_.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(capability));
}

Status KvmSystem::CheckCapabilities() const {
  std::string missing;
  for (const KvmCapability& capability : kRequired) {
    if (Check(capability.number) <= 0) {
      missing +=
          fmt::format("{}{} ({})", missing.empty() ? "" : ", ", capability.name, capability.why);
    }
  }
  if (!missing.empty()) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this host's KVM lacks {}: a newer kernel is needed (5.x or later)",
                       missing);
  }
  return {};
}

Status KvmSystem::ReadTables() {
  const int mmap_bytes = KvmIoctl(fd_.get(), KVM_GET_VCPU_MMAP_SIZE);
  if (mmap_bytes <= 0) {
    return Error::FromErrno(errno, "KVM_GET_VCPU_MMAP_SIZE");
  }
  vcpu_mmap_bytes_ = static_cast<size_t>(mmap_bytes);

  KvmCpuidArray cpuid(kMaxCpuidEntries);
  if (KvmIoctl(fd_.get(), kKvmGetSupportedCpuid, cpuid.request()) != 0) {
    return Error::FromErrno(errno, "KVM_GET_SUPPORTED_CPUID");
  }
  supported_cpuid_ = cpuid.entries();

  KvmMsrIndexArray probe(0);
  KvmIoctl(fd_.get(), kKvmGetMsrIndexList, probe.request());  // E2BIG tells the number
  KvmMsrIndexArray msrs(probe.count());
  if (KvmIoctl(fd_.get(), kKvmGetMsrIndexList, msrs.request()) != 0) {
    return Error::FromErrno(errno, "KVM_GET_MSR_INDEX_LIST");
  }
  msr_indices_ = msrs.entries();
  return {};
}

unsigned KvmSystem::physical_address_bits() const {
  for (const kvm_cpuid_entry2& entry : supported_cpuid_) {
    if (entry.function == 0x8000'0008 && (entry.eax & 0xff) != 0) {
      return std::clamp(entry.eax & 0xff, 32u, 52u);
    }
  }
  return 36;  // AMD APM volume 3, appendix E.4.7: the value without that leaf
}

}  // namespace pacsvisor
