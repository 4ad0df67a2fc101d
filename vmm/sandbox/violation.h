// What happens when a thread makes a system call that its kind is not allowed: one line on standard
// error that names thread and call, then the process ends with kViolationStatus. Nothing else of
// the process runs: whoever controls the thread gets no second try.
#pragma once

#include "vmm/base/result.h"

namespace pacsvisor {

inline constexpr int kViolationStatus = 4;

// Takes SIGSYS over. `last`, where given, is called before the process ends and must be
// async-signal-safe. Before threads start.
Status ReportViolations(void (*last)() = nullptr);

}  // namespace pacsvisor
