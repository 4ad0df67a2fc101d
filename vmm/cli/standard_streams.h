// Standard input, output and error as a program that holds disk images needs them. Threads: one.
#pragma once

#include <fmt/core.h>

#include <cstdio>
#include <string_view>
#include <utility>

namespace pacsvisor {

// Descriptors 0 to 2 that are closed are opened on /dev/null, such that using them fails: else the
// next file opened, a disk, would be standard output. Before anything else is opened. False when
// that cannot be had.
[[nodiscard]] bool OpenClosedStandardStreams();

// A write that fails is remembered, and what is printed later has no effect.
void PrintText(std::FILE* stream, std::string_view text);

template <typename... Args>
void Print(std::FILE* stream, fmt::format_string<Args...> format, Args&&... args) {
  PrintText(stream, fmt::format(format, std::forward<Args>(args)...));
}

// Writes out what is left of standard output. 0, or the errno of the first write that failed: what
// was printed has not arrived. A reader that went away (EPIPE) had what it wanted: 0.
int FinishStandardOutput();

}  // namespace pacsvisor
