// Exceptions, and the one way from CPL 3 back to CPL 0.

#include "guests/freestanding/layout.h"

#define MSR_APIC_BASE 0x1b
#define APIC_X2APIC_ENABLED 0xc00
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_EOI 0x80b
#define MSR_X2APIC_SPURIOUS 0x80f
#define APIC_SOFTWARE_ENABLED 0x1ff
#define MSR_X2APIC_LVT_TIMER 0x832
#define LVT_TSC_DEADLINE 0x40000

    .section .text.traps, "ax"
    .code64

// Vectors that push an error code by themselves: SDM volume 3, "Exception and Interrupt Reference".
#define HAS_ERROR_CODE(v) \
    ((v) == 8 || ((v) >= 10 && (v) <= 14) || (v) == 17 || (v) == 21 || (v) == 29 || (v) == 30)

    .balign 16
    .globl trap_stubs
trap_stubs:                              // TRAP_STUB_BYTES (traps.cc) apart
    i = 0
    .rept IDT_ENTRIES
    .balign 16
    .if i == 3
    jmp breakpoint
    .elseif i == TIMER_VECTOR
    jmp timer_interrupt
    .else
    .if !HAS_ERROR_CODE(i)
    pushq $0
    .endif
    pushq $i
    jmp report
    .endif
    i = i + 1
    .endr

// The stack holds vector, error code and the processor's frame: with the registers pushed here they
// are a TrapFrame (traps.h). Reporting needs many instructions, so it is done at CPL 3.
report:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %cr2, %rax
    pushq %rax
    movq %rsp, %rdi
    pushq $SELECTOR_DATA3
    pushq $report_stack_end - 8
    pushq $2
    pushq $SELECTOR_CODE3
    pushq $ReportTrap
    iretq

// #BP from Ring0Call is a request (number in EDI, Ring0Registers at RSI); any other is reported.
breakpoint:
    cmpq $ring0_call_return, (%rsp)
    jne 9f
    cmpl $RING0_CPUID, %edi
    je .Lcpuid
    cmpl $RING0_WRITE_MSR, %edi
    je .Lwrite_msr
    cmpl $RING0_TRIPLE_FAULT, %edi
    je .Ltriple_fault
    cmpl $RING0_SLEEP, %edi
    je .Lsleep
1:  cli
    hlt
    jmp 1b
.Lcpuid:
    movl (%rsi), %eax
    movl 8(%rsi), %ecx
    cpuid
    movl %eax, (%rsi)
    movl %ebx, 4(%rsi)
    movl %ecx, 8(%rsi)
    movl %edx, 12(%rsi)
    iretq
.Lwrite_msr:
    movl (%rsi), %eax
    movl 8(%rsi), %ecx
    movl 12(%rsi), %edx
    wrmsr
    iretq
.Ltriple_fault:
    lidt no_idt
    ud2
// The one timer of an idle processor: the local APIC's in TSC-deadline mode (SDM volume 3,
// "TSC-Deadline Mode"). The deadline is made here, since only CPL 0 reads the TSC that it is
// compared with on every KVM.
.Lsleep:
    movl $MSR_APIC_BASE, %ecx
    rdmsr
    orl $APIC_X2APIC_ENABLED, %eax
    wrmsr
    xorl %edx, %edx
    movl $MSR_X2APIC_SPURIOUS, %ecx
    movl $APIC_SOFTWARE_ENABLED, %eax
    wrmsr
    movl $MSR_X2APIC_LVT_TIMER, %ecx
    movl $LVT_TSC_DEADLINE + TIMER_VECTOR, %eax
    wrmsr
    rdtsc
    addl (%rsi), %eax
    adcl 12(%rsi), %edx
    movl $MSR_TSC_DEADLINE, %ecx
    wrmsr
    sti
    hlt
    cli
    iretq
timer_interrupt:
    pushq %rax
    pushq %rcx
    pushq %rdx
    movl $MSR_X2APIC_EOI, %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    popq %rdx
    popq %rcx
    popq %rax
    iretq
9:  pushq $0
    pushq $3
    jmp report

    .globl Ring0Call
Ring0Call:
    pushq %rbx
    int3
ring0_call_return:
    popq %rbx
    ret

    .section .rodata
no_idt:
    .word 0
    .quad 0

    .section .bss
    .balign 16
    .skip RING3_STACK_BYTES
report_stack_end:

    .section .note.GNU-stack, "", @progbits
