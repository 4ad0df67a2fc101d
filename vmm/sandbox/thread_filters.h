// Seccomp filters (seccomp(2)), one for each kind of thread, compiled once by libseccomp.
//
// Threads: Compile belongs to the main thread; Apply is called by the thread that is to be
// confined.
#pragma once

#include <linux/filter.h>

#include <array>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/thread_kind.h"

namespace pacsvisor {

class ThreadFilters {
 public:
  static Result<ThreadFilters> Compile();

  // For the rest of the calling thread's life and of those that it starts. Needs no_new_privs or
  // CAP_SYS_ADMIN. What the filter forbids raises SIGSYS.
  Status Apply(ThreadKind kind) const;
  size_t InstructionCount(ThreadKind kind) const { return ProgramOf(kind).size(); }

 private:
  using Program = std::vector<sock_filter>;

  const Program& ProgramOf(ThreadKind kind) const { return programs_[static_cast<size_t>(kind)]; }

  std::array<Program, kThreadKinds.size()> programs_;
};

}  // namespace pacsvisor
