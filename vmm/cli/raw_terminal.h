// A terminal in raw mode: each key goes to the guest as it is typed, Ctrl-C too. Output keeps its
// processing, so that log lines between the guest's still start on the left.
//
// The mode is put back by the destructor, and by the signals that a fault of this process ends in.
// Threads: one; one at a time.
#pragma once

#include <memory>

#include "vmm/base/result.h"

namespace pacsvisor {

class RawTerminal {
 public:
  // Whether `fd` is a terminal and this process in its foreground: another one must not touch it.
  static bool IsOurs(int fd);

  static Result<std::unique_ptr<RawTerminal>> Enter(int fd);
  ~RawTerminal();
  // What the destructor does, for a process that ends without it. Nothing outside raw mode. Any
  // thread, signal handlers too.
  static void Restore();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  RawTerminal() = default;
};

}  // namespace pacsvisor
