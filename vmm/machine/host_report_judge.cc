// What a host's report means, and what to do about it.
#include <linux/userfaultfd.h>

#include "vmm/base/linux_abi.h"
#include "vmm/machine/host_report.h"

namespace pacsvisor {
namespace {

using Level = HostFinding::Level;

constexpr int kApiVersion = 12;
constexpr uint64_t kLittleMemoryBytes = 1ul << 30;

class Judge {
 public:
  explicit Judge(const HostReport& report) : report_(report) {}

  std::vector<HostFinding> Run() {
    JudgeKvm();
    JudgeTracking();
    JudgeContainment();
    JudgeRest();
    return std::move(findings_);
  }

 private:
  void Add(Level level, std::string text, std::string remedy = "") {
    findings_.push_back({.level = level, .text = std::move(text), .remedy = std::move(remedy)});
  }

  void JudgeKvm() {
    const KvmReport& kvm = report_.kvm;
    if (!kvm.device.exists) {
      Add(Level::kProblem, "there is no /dev/kvm: no machine can run here", HowToGetKvm());
      return;
    }
    if (!kvm.device.usable) {
      Add(Level::kProblem, fmt::format("/dev/kvm cannot be opened: {}", kvm.device.problem),
          "usermod -aG kvm $USER, then log in again; without such a group: "
          "chown root:kvm /dev/kvm and chmod 660 /dev/kvm");
      return;
    }
    if (kvm.api_version != kApiVersion) {
      Add(Level::kProblem,
          fmt::format("KVM has API version {}, pacsvisor needs {}", kvm.api_version, kApiVersion),
          "run a kernel of Linux 2.6.22 or later");
    }
    for (const CapabilityReport& capability : kvm.capabilities) {
      if (capability.required && capability.value == 0) {
        Add(Level::kProblem, fmt::format("KVM lacks {} ({})", capability.name, capability.why),
            "run a newer kernel: Debian 12's 6.1 has it");
      }
    }
    JudgeKind();
  }

  std::string HowToGetKvm() const {
    const KvmReport& kvm = report_.kvm;
    if (kvm.cpu_has_svm) {
      return "modprobe kvm_amd";
    }
    if (kvm.cpu_has_vmx) {
      return "modprobe kvm_intel";
    }
    if (kvm.is_guest) {
      return "this host is a virtual machine whose CPU shows neither AMD-V nor VT-x: turn on "
             "nested "
             "virtualization at its provider";
    }
    return "enable AMD-V (SVM) or VT-x in the firmware's set-up";
  }

  void JudgeKind() {
    switch (report_.kvm.kind) {
      case KvmKind::kSvm:
        Add(Level::kNote, "AMD-V: stock guests run at the hardware's speed");
        return;
      case KvmKind::kVmx:
        Add(Level::kWarning,
            "VT-x: pacsvisor is written for it by the manuals and untested on it so far",
            "tell us how it went");
        return;
      case KvmKind::kPvm:
        Add(Level::kWarning,
            "paravirtual KVM (kvm_pvm): there is no hardware virtualization. Guest code at CPL 0 "
            "is "
            "interpreted, some 1,000 times slower, and stops at instructions that the interpreter "
            "lacks; code at CPL 3 runs natively. Stock kernels do not boot here",
            "run stock guests on a host with AMD-V or VT-x, or inside guests/nested; "
            "guests/native-linux runs here at native speed, for tests and benches");
        return;
      case KvmKind::kUnknown:
        Add(Level::kWarning, "KVM works, by a module that pacsvisor does not know");
        return;
    }
  }

  void JudgeTracking() {
    const KvmReport& kvm = report_.kvm;
    if (kvm.device.usable && kvm.Capability("KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2") == 0) {
      Add(Level::kWarning,
          "KVM can only track dirty memory by protecting all of it in one step: guests that write "
          "much stand still for that long, round by round of a snapshot",
          "run Linux 5.0 or later");
    }
    const UserfaultReport& userfault = report_.userfault;
    if (!userfault.usable) {
      Add(Level::kWarning,
          fmt::format("userfaultfd is not usable ({}): memory that is written faster than it is "
                      "saved lengthens the pause, and restores are not lazy",
                      userfault.problem),
          "sysctl vm.unprivileged_userfaultfd=1, or give this user rights on /dev/userfaultfd "
          "(Linux 6.1)");
    } else if ((userfault.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP) == 0) {
      Add(Level::kWarning, "userfaultfd has no write protection: see above for what that costs",
          "run Linux 5.7 or later");
    }
  }

  void JudgeContainment() {
    const ContainmentReport& containment = report_.containment;
    if (!containment.seccomp_problem.empty()) {
      Add(Level::kWarning,
          fmt::format("the kernel has no seccomp filters ({}): run needs seccomp = false in "
                      "[sandbox], and a guest that breaks into the process has all of its rights",
                      containment.seccomp_problem),
          "run a kernel with CONFIG_SECCOMP_FILTER");
    }
    if (containment.is_root) {
      Add(Level::kNote,
          "a machine that root starts stays root's, without capabilities, unless its VM.toml names "
          "another user",
          "adduser --system --group pacsvisor, and in VM.toml: [sandbox] user = \"pacsvisor\"");
    }
    if (!containment.cgroup_problem.empty()) {
      Add(Level::kNote,
          fmt::format("[limits] in VM.toml is refused: {}", containment.cgroup_problem));
    }
    if (report_.io_uring.usable && !containment.uring_restrictions_problem.empty()) {
      Add(Level::kWarning,
          fmt::format(
              "io_uring cannot be restricted to disk I/O ({}): disks are served by threads, "
              "slower",
              containment.uring_restrictions_problem),
          "run Linux 5.10 or later");
    }
  }

  void JudgeRest() {
    if (!report_.io_uring.usable) {
      Add(Level::kWarning,
          fmt::format("io_uring is not usable ({}): disks are served by threads, slower",
                      report_.io_uring.problem),
          "sysctl kernel.io_uring_disabled=0, or allow it in this container's seccomp profile");
    }
    if (!report_.tun.usable) {
      Add(Level::kNote,
          fmt::format(
              "/dev/net/tun is not usable ({}): backend = \"tap\" is not to be had, \"user\" "
              "is",
              report_.tun.problem),
          report_.tun.exists ? "give this user rights on /dev/net/tun" : "modprobe tun");
    }
    if (report_.memory.transparent_huge_pages == "never") {
      Add(Level::kNote, "transparent huge pages are off: guests run some per cent slower",
          "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
    }
    if (report_.memory.available_bytes < kLittleMemoryBytes) {
      Add(Level::kWarning,
          fmt::format("only {} MiB of memory are available", report_.memory.available_bytes >> 20),
          "end other programs, or give machines less");
    }
  }

  const HostReport& report_;
  std::vector<HostFinding> findings_;
};

}  // namespace

std::vector<HostFinding> JudgeHost(const HostReport& report) { return Judge(report).Run(); }

}  // namespace pacsvisor
