// Numbers that the assembly and the C++ of a freestanding guest share. Preprocessor only: start.S
// and traps.S include it.
#pragma once

// Selectors. CODE3 and DATA3 have the values that Linux gives its own users: a paravirtual KVM
// runs guest code at CPL 3 under the host's selectors, and the guest sees no difference.
#define SELECTOR_CODE0 0x08
#define SELECTOR_DATA0 0x10
#define SELECTOR_CODE32 0x18
#define SELECTOR_DATA3 0x2b
#define SELECTOR_CODE3 0x33
#define SELECTOR_TSS 0x40

#define MAX_PROCESSORS 16
#define RING0_STACK_BYTES 4096
#define RING3_STACK_BYTES 16384
#define TSS_BYTES 104
#define TSS_STRIDE_BYTES 128

#define IDT_ENTRIES 33  // exceptions, and the timer
#define TIMER_VECTOR 32

// Where application processors begin, in real mode: a page below 1 MiB.
#define AP_START_PAGE 0x8000

// What Ring0Call (ring0.h) can ask for.
#define RING0_CPUID 0
#define RING0_WRITE_MSR 1
#define RING0_TRIPLE_FAULT 2
#define RING0_HALT 3
#define RING0_SLEEP 4
