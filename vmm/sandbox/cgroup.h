// Limits of the host's resources for one machine, by a cgroup of its own (version 2;
// Documentation/admin-guide/cgroup-v2.rst).
//
// Two processes have to do with it: one that makes it and outlives the machine, and the machine's,
// which joins before it starts a thread or gives rights up. Threads: one.
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
  // Makes a cgroup for machine `name`. As root: below "pacsvisor" at the mount's top. As another
  // user: below the process's own, which must have been delegated to that user (systemd-run --user
  // --scope -p Delegate=yes …). kUnsupported on a host with version 1 only; the message names what
  // is missing and how to get it.
  static Result<Cgroup> Create(const std::string& name, const CgroupLimits& limits,
                               const CgroupHost& host = {});
  // Removes it: whoever had joined has ended.
  ~Cgroup();
  Cgroup(Cgroup&& other) noexcept;
  Cgroup& operator=(Cgroup&&) = delete;

  // The calling process is in it from now on, and all that it starts.
  Status Join() const;
  // How many processes the kernel has killed for want of memory within the limit (memory.events).
  uint64_t OutOfMemoryKills() const;

  const std::string& path() const { return path_; }

 private:
  explicit Cgroup(std::string path) : path_(std::move(path)) {}

  std::string path_;        // empty: moved from
  std::string supervisor_;  // of a delegated parent: where this process has moved to; else empty
};

// Whether this host has version 2 with controllers that this user may hand out; the error says
// what is missing.
Status ProbeCgroups(const CgroupHost& host = {});

}  // namespace pacsvisor
