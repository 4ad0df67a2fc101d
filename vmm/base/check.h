// CHECK: an invariant of our own. A failed one is a bug in pacsvisor and ends the process, in
// release builds too. Never used on what a guest, the host or a user hands in: those are Result<T>.
#pragma once

#include <fmt/core.h>

#include <string>

namespace pacsvisor::internal {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const std::string& details);

}  // namespace pacsvisor::internal

// CHECK(condition) or CHECK(condition, "fmt text {}", values...).
#define CHECK(condition, ...)                                            \
  do {                                                                   \
    if (!(condition)) [[unlikely]] {                                     \
      ::pacsvisor::internal::CheckFailed(__FILE__, __LINE__, #condition, \
                                         ::fmt::format("" __VA_ARGS__)); \
    }                                                                    \
  } while (false)
