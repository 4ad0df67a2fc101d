#include "vmm/base/check.h"

#include <unistd.h>

#include <cstdlib>

namespace pacsvisor::internal {

void CheckFailed(const char* file, int line, const char* condition, const std::string& details) {
  // Straight to the descriptor: the logger may hold a lock, or be what failed.
  const std::string text = fmt::format("pacsvisor bug: {}:{}: CHECK({}) failed{}{}\n", file, line,
                                       condition, details.empty() ? "" : ": ", details);
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  std::abort();
}

}  // namespace pacsvisor::internal
