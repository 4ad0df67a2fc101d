// What a vCPU's registers are to hold when the loaded kernel is entered, as plain data: all that is
// not named is zero, interrupts are off (RFLAGS = 2).
#pragma once

#include <cstdint>
#include <string>

#include "vmm/memory/guest_address.h"

namespace pacsvisor {

enum class CpuMode {
  kLong64,       // paging on, identity mapped up to 4 GiB
  kProtected32,  // paging off, flat segments
};

// A segment register with its descriptor's content (Intel SDM 3A, 3.4.5), as KVM_SET_SREGS wants
// it.
struct SegmentState {
  uint16_t selector = 0;
  uint64_t base = 0;
  uint32_t limit_bytes = 0;
  uint8_t type = 0;
  bool present = false;
  bool code_or_data = false;      // S
  bool long_mode = false;         // L
  bool default_32 = false;        // D/B
  bool page_granularity = false;  // G
};

struct BootState {
  CpuMode mode = CpuMode::kLong64;
  GuestAddress entry;  // RIP
  uint64_t rsi = 0;    // boot_params, in long mode
  uint64_t rbx = 0;    // hvm_start_info, by PVH
  uint64_t rsp = 0;    // the top of a page that nothing else uses
  uint64_t rflags = 2;
  uint64_t cr0 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t efer = 0;
  SegmentState code;
  SegmentState data;  // DS, ES, FS, GS and SS
  SegmentState task;  // TR
  GuestAddress gdt;
  uint16_t gdt_limit_bytes = 0;

  // For logs and tests.
  std::string kernel;       // what was loaded and how, e.g. "bzImage, unpacked by the guest"
  GuestRange kernel_range;  // what the kernel wants for itself until it manages memory
  GuestRange initrd_range;  // empty when there is none
};

}  // namespace pacsvisor
