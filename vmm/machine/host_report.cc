#include "vmm/machine/host_report.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "vmm/base/unique_fd.h"
#include "vmm/memory/userfaultfd.h"

namespace pacsvisor {
namespace {

std::string FirstLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "Name: value" of /proc/cpuinfo and the like, blanks round the colon left out.
std::string Field(const char* path, std::string_view name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(':');
    const size_t end = line.find_last_not_of(" \t", colon == 0 ? 0 : colon - 1);
    if (colon != std::string::npos && line.substr(0, end + 1) == name) {
      const size_t begin = line.find_first_not_of(" \t", colon + 1);
      return begin == std::string::npos ? "" : line.substr(begin);
    }
  }
  return "";
}

uint64_t MemoryField(std::string_view name) {
  return std::strtoull(Field("/proc/meminfo", name).c_str(), nullptr, 10);
}

// "always [madvise] never": the word in brackets.
std::string Chosen(const std::string& choices) {
  const size_t begin = choices.find('[');
  const size_t end = choices.find(']');
  return begin == std::string::npos || end < begin ? ""
                                                   : choices.substr(begin + 1, end - begin - 1);
}

MemoryReport ExamineMemory() {
  constexpr uint64_t kKib = 1024;
  return {
      .total_bytes = MemoryField("MemTotal") * kKib,
      .available_bytes = MemoryField("MemAvailable") * kKib,
      .huge_page_bytes = MemoryField("Hugepagesize") * kKib,
      .huge_pages_total = MemoryField("HugePages_Total"),
      .huge_pages_free = MemoryField("HugePages_Free"),
      .transparent_huge_pages = Chosen(FirstLine("/sys/kernel/mm/transparent_hugepage/enabled"))};
}

DeviceReport ExamineDevice(const char* path) {
  const UniqueFd fd(open(path, O_RDWR | O_CLOEXEC));
  return {.exists = fd.valid() || errno != ENOENT,
          .usable = fd.valid(),
          .problem = fd.valid() ? "" : std::strerror(errno)};
}

DeviceReport ExamineIoUring() {
  io_uring ring;
  const int result = io_uring_queue_init(4, &ring, 0);
  if (result < 0) {
    return {.exists = result != -ENOSYS, .usable = false, .problem = std::strerror(-result)};
  }
  io_uring_queue_exit(&ring);
  return {.exists = true, .usable = true, .problem = ""};
}

UserfaultReport ExamineUserfault() {
  UserfaultReport report{.unprivileged = FirstLine("/proc/sys/vm/unprivileged_userfaultfd") == "1"};
  const Result<uint64_t> features = UserfaultFeatures(UserfaultScope::kAllFaults);
  if (features.ok()) {
    report.usable = true;
    report.features = *features;
  } else {
    report.problem = std::strerror(features.error().error_number());
  }
  return report;
}

std::vector<TrackingReport> ExamineTracking() {
  const Result<std::unique_ptr<KvmSystem>> kvm = KvmSystem::Open();
  std::vector<TrackingReport> reports;
  for (const Tracking kind : kTrackingSources) {
    TrackingReport report{.kind = kind, .problem = kvm.ok() ? "" : kvm.error().message()};
    if (kvm.ok()) {
      const Result<TrackingResource> opened = OpenTracking(kind, **kvm);
      report.problem = opened.ok() ? "" : opened.error().message();
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace

HostReport ExamineHost() {
  utsname name = {};
  CHECK(uname(&name) == 0);
  return {.kernel = name.release,
          .cpu_model = Field("/proc/cpuinfo", "model name"),
          .cpus = std::thread::hardware_concurrency(),
          .kvm = ExamineKvm(),
          .tun = ExamineDevice("/dev/net/tun"),
          .io_uring = ExamineIoUring(),
          .userfault = ExamineUserfault(),
          .tracking = ExamineTracking(),
          .containment = ExamineContainment(),
          .memory = ExamineMemory()};
}

Tracking AutomaticTracking(const HostReport& report) {
  const bool any = std::any_of(report.tracking.begin(), report.tracking.end(),
                               [](const TrackingReport& one) { return one.problem.empty(); });
  return any ? kAutomaticTracking : Tracking::kAuto;
}

}  // namespace pacsvisor
