// Exceptions: each ends in one readable line on the serial port and a triple fault, so that the
// hypervisor's own report follows. Interrupts are never enabled.
#pragma once

#include <cstdint>
#include <string_view>

#include "guests/freestanding/serial.h"

namespace pacsvisor {

// What traps.S and the processor push, lowest address first (SDM volume 3, "64-Bit Mode Stack
// Frame").
struct TrapFrame {
  uint64_t cr2;
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
  uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
  uint64_t vector, error_code;
  uint64_t rip, cs, rflags, rsp, ss;
};

// Fills the interrupt descriptor table; reports go to `serial`.
void InstallTraps(Serial* serial);

// For what cannot go on: says why, then as above. `what` is one sentence.
[[noreturn]] void Panic(std::string_view what);

}  // namespace pacsvisor
