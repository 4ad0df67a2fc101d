// From the first instruction to C++ at CPL 3.
//
// The tables are assembled, not computed: on a KVM without hardware virtualization code at CPL 0 is
// interpreted, so the way down to CPL 3 is kept to a few dozen instructions. Everything else,
// the rest of the page tables included, is done at CPL 3 over memory that carries the user bit.

#include "guests/freestanding/layout.h"

#define CR0_ENABLE 0x80000033        // PG, NE, ET, MP, PE; CD and NW off
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define RFLAGS_FIXED 2               // interrupts stay off: everything is polled
#define PAGE_TABLE 7                 // present, writable, user
#define PAGE_LARGE 0x87              // the same, 2 MiB

// PVH boot protocol: XEN_ELFNOTE_PHYS32_ENTRY (type 18) holds the 32-bit entry point.
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_start

    .section .text.start, "ax"
    .code32
// PVH: flat 32-bit protected mode without paging, EBX = address of hvm_start_info.
    .globl pvh_start
pvh_start:
    cli
    cld
    movl %ebx, start_info_address

// Every processor comes by here, in flat 32-bit protected mode with DS loaded.
start32:
    lgdt gdt_pointer
    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $page_map_level4, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl $CR0_ENABLE, %eax
    movl %eax, %cr0
    ljmp $SELECTOR_CODE0, $start64

    .code64
start64:
    xorl %eax, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    lidt idt_pointer
    movl $1, %edi
    lock xaddl %edi, processor_tickets   // EDI: this processor's number, the argument of CpuMain
    cmpl $MAX_PROCESSORS, %edi
    jae park
    movl %edi, %eax
    shll $4, %eax
    addl $SELECTOR_TSS, %eax
    ltr %ax
    leal 1(%rdi), %eax
    imull $RING0_STACK_BYTES, %eax, %ecx
    leaq ring0_stacks(%rcx), %rsp
    imull $RING3_STACK_BYTES, %eax, %ecx
    leaq ring3_stacks - 8(%rcx), %rdx    // System V ABI: RSP + 8 is a multiple of 16 at entry
    pushq $SELECTOR_DATA3
    pushq %rdx
    pushq $RFLAGS_FIXED
    pushq $SELECTOR_CODE3
    pushq $CpuMain
    iretq

park:
    cli
    hlt
    jmp park

// Copied to AP_START_PAGE, where a start-up IPI lets an application processor begin in real mode
// (SDM volume 3, "Multiple-Processor Initialization").
    .code16
    .globl ap_start
    .globl ap_start_end
ap_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl ap_gdt_pointer - ap_start
    movl $0x11, %eax                     // PE, ET
    movl %eax, %cr0
    ljmpl $SELECTOR_CODE32, $ap_start32
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_start_end:

    .code32
ap_start32:
    movl $SELECTOR_DATA0, %eax
    movl %eax, %ds
    movl %eax, %ss
    jmp start32

    .section .rodata
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
    .balign 8
idt_pointer:
    .word IDT_ENTRIES * 16 - 1
    .quad idt

    .section .data
    .balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff             // SELECTOR_CODE0: 64-bit, DPL 0
    .quad 0x00cf93000000ffff             // SELECTOR_DATA0
    .quad 0x00cf9b000000ffff             // SELECTOR_CODE32: DPL 0
    .quad 0
    .quad 0x00cff3000000ffff             // SELECTOR_DATA3
    .quad 0x00affb000000ffff             // SELECTOR_CODE3: 64-bit, DPL 3
    .quad 0
// 64-bit TSS descriptors. The image lies below 16 MiB, so base[23:0] and the access byte (0x89:
// present, available 64-bit TSS) are one relocated word.
    .word tss_end - tss - 1
    .long tss + 0x89000000
    .word 0
    .quad 0
    i = 1
    .rept MAX_PROCESSORS - 1
    .word TSS_BYTES - 1
    .long ap_tss + (i - 1) * TSS_STRIDE_BYTES + 0x89000000
    .word 0
    .quad 0
    i = i + 1
    .endr
gdt_end:

// SDM volume 3, "64-Bit Task-State Segment". IST 1 is for double faults.
    .macro task_state processor, io_map
    .long 0
    .quad ring0_stacks + (\processor + 1) * RING0_STACK_BYTES
    .quad 0, 0, 0
    .quad emergency_stack_end
    .quad 0, 0, 0, 0, 0, 0, 0
    .word 0, \io_map
    .endm

    .balign 128
tss:
    task_state 0, TSS_BYTES
    .globl io_permissions
io_permissions:                          // a set bit denies; one more byte of ones ends the map
    .fill 65536 / 8 + 1, 1, 0xff
tss_end:
    .balign 128
ap_tss:
    i = 1
    .rept MAX_PROCESSORS - 1
    task_state i, 0xffff
    .balign TSS_STRIDE_BYTES
    i = i + 1
    .endr

    .balign 4096
page_map_level4:
    .quad page_directory_pointers + PAGE_TABLE
    .fill 511, 8, 0
    .globl page_directory_pointers
page_directory_pointers:
    .quad first_page_directory + PAGE_TABLE
    .fill 511, 8, 0
first_page_directory:
    i = 0
    .rept 512
    .quad (i << 21) + PAGE_LARGE
    i = i + 1
    .endr

    .globl start_info_address
start_info_address:
    .quad 0
processor_tickets:
    .long 0

    .section .bss
    .balign 4096
    .globl idt
idt:
    .skip IDT_ENTRIES * 16
    .balign 4096
ring0_stacks:
    .skip MAX_PROCESSORS * RING0_STACK_BYTES
ring3_stacks:
    .skip MAX_PROCESSORS * RING3_STACK_BYTES
emergency_stack:
    .skip RING0_STACK_BYTES
emergency_stack_end:

    .section .note.GNU-stack, "", @progbits
