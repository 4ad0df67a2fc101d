// What this host can do for machines: asked of the kernel, device by device. `pacsvisor doctor`
// shows it. Opens devices for a moment, changes nothing.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/kvm/kvm_system.h"
#include "vmm/machine/tracking.h"

namespace pacsvisor {

// A device file: whether it is there, and opens for this user.
struct DeviceReport {
  bool exists = false;
  bool usable = false;
  std::string problem;  // why it is not usable
};

struct CapabilityReport {
  std::string_view name;  // as in linux/kvm.h
  std::string_view why;
  int value = 0;  // KVM_CHECK_EXTENSION; 0: not there
  bool required = false;
};

struct KvmReport {
  DeviceReport device;
  KvmKind kind = KvmKind::kUnknown;
  bool cpu_has_svm = false;
  bool cpu_has_vmx = false;
  bool is_guest = false;  // the CPU says that this host is itself a guest
  int api_version = 0;
  std::vector<CapabilityReport> capabilities;

  bool AllRequired() const;
  int Capability(std::string_view name) const;  // 0 when not there
};

struct UserfaultReport {
  bool usable = false;
  std::string problem;
  uint64_t features = 0;  // UFFD_FEATURE_*
  bool unprivileged = false;
};

// A way to track dirty memory (vmm/machine/tracking.h).
struct TrackingReport {
  Tracking kind = Tracking::kAuto;
  std::string problem;  // why this host does not have it; empty where it does
};

struct MemoryReport {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;
  uint64_t huge_page_bytes = 0;  // size of one
  uint64_t huge_pages_total = 0;
  uint64_t huge_pages_free = 0;
  std::string transparent_huge_pages;  // "always", "madvise", "never"
};

// Of each, why this host (or this user on it) cannot keep it; empty where it can.
struct ContainmentReport {
  bool is_root = false;
  std::string seccomp_problem;
  std::string cgroup_problem;      // [limits] of VM.toml
  std::string namespaces_problem;  // [sandbox] namespaces
  std::string uring_restrictions_problem;
};

struct HostReport {
  std::string kernel;  // uname -r
  std::string cpu_model;
  uint32_t cpus = 0;
  KvmReport kvm;
  DeviceReport tun;
  DeviceReport io_uring;  // `exists` is the system call
  UserfaultReport userfault;
  std::vector<TrackingReport> tracking;  // each of kTrackingSources
  ContainmentReport containment;
  MemoryReport memory;
};

// Something to tell the user: what, what it means, what to do.
struct HostFinding {
  enum class Level { kNote, kWarning, kProblem };  // kProblem: no machine runs here
  Level level = Level::kNote;
  std::string text;
  std::string remedy;  // empty: none is needed
};

HostReport ExamineHost();
// What "auto" stands for here; kAuto where no machine runs.
Tracking AutomaticTracking(const HostReport& report);
KvmReport ExamineKvm();
ContainmentReport ExamineContainment();
std::vector<HostFinding> JudgeHost(const HostReport& report);

}  // namespace pacsvisor
