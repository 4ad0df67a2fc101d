#include "vmm/machine/boot_registers.h"

namespace pacsvisor {
namespace {

kvm_segment Segment(const SegmentState& state) {
  kvm_segment segment{};
  segment.selector = state.selector;
  segment.base = state.base;
  segment.limit = state.limit_bytes;
  segment.type = state.type;
  segment.present = state.present ? 1 : 0;
  segment.s = state.code_or_data ? 1 : 0;
  segment.l = state.long_mode ? 1 : 0;
  segment.db = state.default_32 ? 1 : 0;
  segment.g = state.page_granularity ? 1 : 0;
  return segment;
}

}  // namespace

Status SetBootRegisters(KvmVcpu& vcpu, const BootState& state) {
  kvm_sregs sregs = TRY(vcpu.GetSpecialRegisters());
  sregs.cr0 = state.cr0;
  sregs.cr3 = state.cr3;
  sregs.cr4 = state.cr4;
  sregs.efer = state.efer;
  sregs.cs = Segment(state.code);
  for (kvm_segment* segment : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) {
    *segment = Segment(state.data);
  }
  sregs.tr = Segment(state.task);
  sregs.gdt.base = state.gdt.raw();
  sregs.gdt.limit = state.gdt_limit_bytes;
  sregs.idt.base = 0;
  sregs.idt.limit = 0;
  TRY(vcpu.SetSpecialRegisters(sregs));

  kvm_regs regs{};
  regs.rip = state.entry.raw();
  regs.rsi = state.rsi;
  regs.rbx = state.rbx;
  regs.rsp = state.rsp;
  regs.rflags = state.rflags;
  return vcpu.SetRegisters(regs);
}

}  // namespace pacsvisor
