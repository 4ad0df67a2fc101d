#include "vmm/sandbox/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kPeriodUs = 100'000;  // cpu.max's default
constexpr size_t kFileBytes = 4096;

Result<std::string> ReadText(const std::string& path) {
  UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    return Error::FromErrno(errno, "{}", path);
  }
  std::array<char, kFileBytes> text = {};
  const ssize_t size_bytes = read(file.get(), text.data(), text.size());
  if (size_bytes < 0) {
    return Error::FromErrno(errno, "{}", path);
  }
  return std::string(text.data(), static_cast<size_t>(size_bytes));
}

Status WriteText(const std::string& path, const std::string& text) {
  UniqueFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() ||
      write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return Error::FromErrno(errno, "cannot write '{}' to {}", text, path);
  }
  return {};
}

std::vector<std::string> ControllersOf(const CgroupLimits& limits) {
  std::vector<std::string> controllers;
  if (limits.cpu_percent) {
    controllers.emplace_back("cpu");
  }
  if (limits.memory_bytes) {
    controllers.emplace_back("memory");
  }
  if (limits.thread_count) {
    controllers.emplace_back("pids");
  }
  return controllers;
}

bool HasWord(const std::string& text, const std::string& word) {
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find_first_of(" \n", begin), text.size());
    if (text.compare(begin, end - begin, word) == 0) {
      return true;
    }
    begin = end + 1;
  }
  return false;
}

Result<std::string> AvailableControllers(const CgroupHost& host) {
  Result<std::string> controllers = ReadText(host.mount + "/cgroup.controllers");
  if (!controllers.ok()) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this host has no cgroup version 2 at {}: limits need it (kernel parameter "
                       "systemd.unified_cgroup_hierarchy=1)",
                       host.mount);
  }
  return controllers;
}

// "0::/user.slice/…": version 2's line of /proc/self/cgroup.
Result<std::string> OwnCgroup(const CgroupHost& host) {
  const std::string text = TRY(ReadText(host.own_cgroup_file));
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    if (line.starts_with("0::")) {
      return line.substr(3) == "/" ? host.mount : host.mount + line.substr(3);
    }
    begin = end + 1;
  }
  return Error::Make(ErrorCode::kUnsupported, "this process is in no cgroup of version 2 ({})",
                     host.own_cgroup_file);
}

Status MakeCgroup(const std::string& path) {
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
    return Error::FromErrno(errno, "cannot make the cgroup {}", path);
  }
  return {};
}

Status EnableControllers(const std::string& path, const std::vector<std::string>& controllers) {
  for (const std::string& controller : controllers) {
    TRY(WriteText(path + "/cgroup.subtree_control", "+" + controller));
  }
  return {};
}

Status ApplyLimits(const std::string& path, const CgroupLimits& limits) {
  if (limits.cpu_percent) {
    const uint64_t quota_us = uint64_t{*limits.cpu_percent} * kPeriodUs / 100;
    TRY(WriteText(path + "/cpu.max", fmt::format("{} {}", quota_us, kPeriodUs)));
  }
  if (limits.memory_bytes) {
    TRY(WriteText(path + "/memory.max", fmt::format("{}", *limits.memory_bytes)));
  }
  if (limits.thread_count) {
    TRY(WriteText(path + "/pids.max", fmt::format("{}", *limits.thread_count)));
  }
  return {};
}

// "0" is the writing process, by whatever number it is known elsewhere.
Status MoveInto(const std::string& path) { return WriteText(path + "/cgroup.procs", "0"); }

Status CheckControllers(const std::vector<std::string>& controllers, const CgroupHost& host) {
  const std::string available = TRY(AvailableControllers(host));
  for (const std::string& controller : controllers) {
    if (!HasWord(available, controller)) {
      return Error::Make(ErrorCode::kUnsupported,
                         "this host's cgroup version 2 has no controller '{}' (it has: {}): it is "
                         "version 1's, or switched off at boot",
                         controller, available.substr(0, available.find('\n')));
    }
  }
  return {};
}

}  // namespace

Result<Cgroup> Cgroup::Create(const std::string& name, const CgroupLimits& limits,
                              const CgroupHost& host) {
  const std::vector<std::string> controllers = ControllersOf(limits);
  TRY(CheckControllers(controllers, host));
  const bool root = geteuid() == 0;
  const std::string parent = root ? host.mount + "/pacsvisor" : TRY(OwnCgroup(host));
  if (root) {
    TRY(EnableControllers(host.mount, controllers));
    TRY(MakeCgroup(parent));
  }
  TRY(MakeCgroup(parent + "/" + name));
  Cgroup cgroup(parent + "/" + name);
  if (!root) {
    // A cgroup that hands controllers on may hold no process itself (cgroup-v2.rst, "No Internal
    // Process Constraint"): out of the delegated one first.
    cgroup.supervisor_ = parent + "/supervisor";
    TRY(MakeCgroup(cgroup.supervisor_));
    TRY(MoveInto(cgroup.supervisor_));
  }
  TRY(EnableControllers(parent, controllers));
  TRY(ApplyLimits(cgroup.path_, limits));
  return cgroup;
}

Status Cgroup::Join() const { return MoveInto(path_); }

uint64_t Cgroup::OutOfMemoryKills() const {
  const Result<std::string> events = ReadText(path_ + "/memory.events");
  constexpr std::string_view kKey = "\noom_kill ";
  const size_t at = events.ok() ? events->find(kKey) : std::string::npos;
  uint64_t count = 0;
  if (at != std::string::npos) {
    const char* const begin = events->data() + at + kKey.size();
    std::from_chars(begin, events->data() + events->size(), count);
  }
  return count;
}

Cgroup::Cgroup(Cgroup&& other) noexcept
    : path_(std::exchange(other.path_, {})), supervisor_(std::move(other.supervisor_)) {}

// What cannot be undone is left to the host: an empty cgroup costs nothing, and a delegated one
// ends with the session that it was made for.
Cgroup::~Cgroup() {
  if (!path_.empty()) {
    rmdir(path_.c_str());
  }
}

Status ProbeCgroups(const CgroupHost& host) {
  const std::string available = TRY(AvailableControllers(host));
  for (const char* controller : {"cpu", "memory", "pids"}) {
    if (!HasWord(available, controller)) {
      return Error::Make(ErrorCode::kUnsupported, "cgroup version 2 has no controller '{}'",
                         controller);
    }
  }
  const std::string own = TRY(OwnCgroup(host));
  const std::string handed_out = geteuid() == 0 ? host.mount : own;
  if (access((handed_out + "/cgroup.subtree_control").c_str(), W_OK) != 0) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "cgroup {} is not this user's: start with systemd-run --user --scope -p "
                       "Delegate=yes pacsvisor run …",
                       handed_out);
  }
  return {};
}

}  // namespace pacsvisor
