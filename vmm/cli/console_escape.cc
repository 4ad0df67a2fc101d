#include "vmm/cli/console_escape.h"

namespace pacsvisor {
namespace {

constexpr uint8_t kEscape = 0x1d;  // Ctrl-]

}  // namespace

ConsoleEscape::Typed ConsoleEscape::Take(std::span<const uint8_t> bytes) {
  Typed typed;
  for (const uint8_t byte : bytes) {
    if (!escaped_ && byte == kEscape) {
      escaped_ = true;
      continue;
    }
    if (!escaped_) {
      typed.for_guest.push_back(byte);
      continue;
    }
    escaped_ = false;
    if (byte == 'x' || byte == 'X') {
      typed.actions.push_back(Action::kLeave);
    } else if (byte == '?') {
      typed.actions.push_back(Action::kHelp);
    } else {
      typed.for_guest.push_back(kEscape);
      if (byte != kEscape) {
        typed.for_guest.push_back(byte);
      }
    }
  }
  return typed;
}

std::string ConsoleEscape::Help() {
  return "\r\n"
         "Ctrl-] x       power button, and force after the grace; again: by force at once\r\n"
         "Ctrl-] ?       this help\r\n"
         "Ctrl-] Ctrl-]  a Ctrl-] for the guest\r\n";
}

}  // namespace pacsvisor
