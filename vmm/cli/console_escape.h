// What is typed on the terminal, split into what the guest gets and what is meant for pacsvisor.
// Ctrl-] starts an escape: x leaves, ? shows help, a second Ctrl-] is sent as itself; anything else
// is sent with the Ctrl-] before it.
// Threads: one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pacsvisor {

class ConsoleEscape {
 public:
  enum class Action { kLeave, kHelp };

  struct Typed {
    std::vector<uint8_t> for_guest;
    std::vector<Action> actions;
  };

  Typed Take(std::span<const uint8_t> bytes);

  static std::string Help();  // lines that end in CR LF

 private:
  bool escaped_ = false;
};

}  // namespace pacsvisor
