// What only CPL 0 may do. Each call is a breakpoint that the handler in traps.S answers in a dozen
// instructions; the code below CpuMain runs at CPL 3.
#pragma once

#include <cstdint>

namespace pacsvisor {

struct CpuidResult {
  uint32_t eax, ebx, ecx, edx;
};

// CPUID as the hypervisor presents it. At CPL 3 on a KVM without hardware virtualization the
// instruction would show the host's own.
CpuidResult Cpuid(uint32_t leaf, uint32_t subleaf = 0);

// A #GP (no such register) ends in an exception report.
void WriteMsr(uint32_t index, uint64_t value);

// Halts this processor until a timer of its own, armed for so many cycles of the TSC ahead, wakes
// it. Switches its local APIC to x2APIC mode: nobody uses the xAPIC's registers afterwards.
void SleepFor(uint64_t cycles);

// Stops this processor for good.
[[noreturn]] void HaltProcessor();

// Shuts the whole machine down by an exception that cannot be delivered.
[[noreturn]] void TripleFault();

// Lets CPL 3 use `count` I/O ports from `port` on (processor 0 only: the others' TSS have no map).
void AllowPorts(uint16_t port, uint16_t count);

}  // namespace pacsvisor
