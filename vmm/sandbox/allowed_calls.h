// Which system calls each kind of thread may make, and with which arguments where these decide.
// What is not named here ends the process (vmm/sandbox/violation.h).
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/base/thread_kind.h"

namespace pacsvisor {

// The call is allowed where (argument `index` & `mask`) == `value`.
struct ArgumentRule {
  unsigned index = 0;  // 0 to 5
  uint64_t mask = ~0ul;
  uint64_t value = 0;
};

struct AllowedCall {
  int number = 0;                   // SYS_*
  std::vector<ArgumentRule> rules;  // all must hold; a call may stand here several times
  int error = 0;                    // not 0: not made, the thread sees this errno instead
};

// A thread inherits the filter of the one that starts it: what a kind allows, the kinds that start
// it allow as well. kMain starts all of them.
std::vector<AllowedCall> AllowedCalls(ThreadKind kind);

}  // namespace pacsvisor
