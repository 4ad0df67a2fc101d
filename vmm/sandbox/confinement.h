// Everything this folder can do to a process that is about to run a guest, in the order that works.
//
// Threads: before any is started (credentials and filters are each thread's own).
#pragma once

#include <optional>

#include "vmm/base/result.h"
#include "vmm/sandbox/privileges.h"

namespace pacsvisor {

struct ConfinementOptions {
  std::optional<User> user;  // whom to become; empty: who it is
  KeptPrivileges kept;
  bool empty_root = false;     // EnterEmptyRoot
  bool empty_network = false;  // EnterEmptyNetwork
  bool filter_calls = true;    // seccomp
  // Called before a violation ends the process; async-signal-safe.
  void (*last)() = nullptr;
};

// Enters the namespaces, gives privileges up, hides memory, and confines this thread as
// ThreadKind::kMain and each that is started later (vmm/base/thread.h) by its kind. What is to be
// opened by other rights, or by name, is open.
Status Confine(const ConfinementOptions& options);

// Sanitizers make system calls of their own and look into their process from another: their builds
// run without filters, and hide nothing.
bool BuildCanBeConfined();

}  // namespace pacsvisor
