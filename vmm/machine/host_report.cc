#include "vmm/machine/host_report.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "vmm/base/linux_abi.h"
#include "vmm/base/unique_fd.h"

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

// By system call where that is allowed, otherwise by the device (Linux 6.1).
UniqueFd OpenUserfault() {
  UniqueFd fd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (fd.valid()) {
    return fd;
  }
  const int reason = errno;
  const UniqueFd device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device.valid()) {
    fd.Reset(ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  }
  if (!fd.valid()) {
    errno = reason;
  }
  return fd;
}

UserfaultReport ExamineUserfault() {
  UserfaultReport report{.unprivileged = FirstLine("/proc/sys/vm/unprivileged_userfaultfd") == "1"};
  const UniqueFd fd = OpenUserfault();
  uffdio_api api = {.api = UFFD_API};
  if (fd.valid() && ioctl(fd.get(), UFFDIO_API, &api) == 0) {
    report.usable = true;
    report.features = api.features;
  } else {
    report.problem = std::strerror(errno);
  }
  return report;
}

// Of one page of this process. Kernels without it know no such request.
bool HasPagemapScan() {
  const UniqueFd fd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  const auto page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const auto here = reinterpret_cast<uint64_t>(&page_bytes) & ~(page_bytes - 1);  // as a number
  PageRegion region = {};
  PagemapScanArgument argument = {
      .size = sizeof(PagemapScanArgument),
      .start = here,
      .end = here + page_bytes,
      .regions = reinterpret_cast<uint64_t>(&region),  // as the ABI has it
      .region_count = 1,
      .category_mask = kPageIsPresent,
      .return_mask = kPageIsPresent};
  return fd.valid() && ioctl(fd.get(), kPagemapScan, &argument) == 1;
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
          .pagemap_scan = HasPagemapScan(),
          .memory = ExamineMemory()};
}

}  // namespace pacsvisor
