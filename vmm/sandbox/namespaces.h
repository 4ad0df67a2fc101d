// Namespaces of a machine's own (namespaces(7)): of the host, it sees only what it has open.
//
// Threads: before any is started. All of it needs root.
#pragma once

#include "vmm/base/result.h"

namespace pacsvisor {

struct Namespaces {
  bool pid = false;  // sees no other process; made by Supervisor, since a child is the first in it
  bool mount = false;    // sees no file but the two of EnterEmptyRoot
  bool network = false;  // has no network but the TAP interfaces that it has open

  bool any() const { return pid || mount || network; }
};

// A network namespace without interfaces. What is open stays in its own.
Status EnterEmptyNetwork();

// A root directory with nothing in it but etc/resolv.conf and dev/urandom, which the user-mode
// network reads; read-only. Relative names lead nowhere, either.
Status EnterEmptyRoot();

}  // namespace pacsvisor
