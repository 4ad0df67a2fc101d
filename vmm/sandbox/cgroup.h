// Limits of the host's resources for one machine, by a cgroup of its own (version 2;
// Documentation/admin-guide/cgroup-v2.rst).
//
// Threads: before any is started; all that the process starts later is inside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "vmm/base/result.h"

namespace pacsvisor {

struct CgroupLimits {
  std::optional<uint32_t> cpu_percent;   // of one processor: 150 is one and a half (cpu.max)
  std::optional<uint64_t> memory_bytes;  // of guest and VMM together (memory.max)
  std::optional<uint32_t> thread_count;  // pids.max

  bool any() const { return cpu_percent || memory_bytes || thread_count; }
};

// Where cgroups are to be found; tests give another place.
struct CgroupHost {
  std::string mount = "/sys/fs/cgroup";
  std::string own_cgroup_file = "/proc/self/cgroup";
};

class Cgroup {
 public:
  // Makes a cgroup for machine `name` and moves this process into it. As root: below "pacsvisor"
  // at the mount's top. As another user: below the process's own, which must have been delegated
  // to that user (systemd-run --user --scope -p Delegate=yes …). kUnsupported on a host with
  // version 1 only; the message names what is missing and how to get it.
  static Result<Cgroup> Enter(const std::string& name, const CgroupLimits& limits,
                              const CgroupHost& host = {});
  // Leaves it, and removes it.
  ~Cgroup();
  Cgroup(Cgroup&& other) noexcept;
  Cgroup& operator=(Cgroup&&) = delete;

  const std::string& path() const { return path_; }

 private:
  Cgroup(std::string parent, std::string path)
      : parent_(std::move(parent)), path_(std::move(path)) {}

  std::string parent_;
  std::string path_;  // empty: moved from
};

// Whether this host has version 2 with controllers that this user may hand out; the error says
// what is missing.
Status ProbeCgroups(const CgroupHost& host = {});

}  // namespace pacsvisor
