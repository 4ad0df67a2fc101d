#include <fcntl.h>
#include <linux/kvm.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "vmm/base/unique_fd.h"
#include "vmm/machine/host_report.h"

namespace pacsvisor {
namespace {

void ReadCpuFlags(KvmReport* report) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("flags")) {
      continue;
    }
    std::istringstream flags(line);
    std::string flag;
    while (flags >> flag) {
      report->cpu_has_svm |= flag == "svm";
      report->cpu_has_vmx |= flag == "vmx";
      report->is_guest |= flag == "hypervisor";
    }
    return;  // the CPUs of a host are alike
  }
}

void AskCapabilities(int fd, std::span<const KvmCapability> list, bool required,
                     std::vector<CapabilityReport>* out) {
  for (const KvmCapability& capability : list) {
    const int value =
        KvmIoctl(fd, KVM_CHECK_EXTENSION, static_cast<unsigned long>(capability.number));
    out->push_back({.name = capability.name,
                    .why = capability.why,
                    .value = std::max(value, 0),
                    .required = required});
  }
}

}  // namespace

bool KvmReport::AllRequired() const {
  return std::all_of(capabilities.begin(), capabilities.end(), [](const CapabilityReport& entry) {
    return !entry.required || entry.value != 0;
  });
}

int KvmReport::Capability(std::string_view name) const {
  const auto found =
      std::find_if(capabilities.begin(), capabilities.end(),
                   [&](const CapabilityReport& entry) { return entry.name == name; });
  return found == capabilities.end() ? 0 : found->value;
}

KvmReport ExamineKvm() {
  KvmReport report{.kind = DetectKvmKind()};
  ReadCpuFlags(&report);
  const UniqueFd fd(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  report.device.exists = fd.valid() || errno != ENOENT;
  report.device.usable = fd.valid();
  if (!fd.valid()) {
    report.device.problem = std::strerror(errno);
    return report;
  }
  report.api_version = KvmIoctl(fd.get(), KVM_GET_API_VERSION);
  AskCapabilities(fd.get(), KvmSystem::RequiredCapabilities(), true, &report.capabilities);
  AskCapabilities(fd.get(), KvmSystem::OptionalCapabilities(), false, &report.capabilities);
  return report;
}

}  // namespace pacsvisor
