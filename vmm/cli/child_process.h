// Another program, run to its end: its output is handed over as it comes, its last words are kept.
// It ends with this process, whatever that ends by. Threads: one.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cli/interrupts.h"

namespace pacsvisor {

struct ChildOutcome {
  int status = 0;      // exit status, or 128 and the signal that ended it
  std::string errors;  // the last 4 KiB of its standard error, without the final line end
};

// `argv`: the program's name, looked up in PATH, and its arguments; in English (LC_ALL=C), without
// standard input. kNotFound when there is no such program, kCancelled when `interrupts` end it.
Result<ChildOutcome> RunChild(const std::vector<std::string>& argv, Interrupts& interrupts,
                              const std::function<void(std::string_view)>& on_output);

}  // namespace pacsvisor
