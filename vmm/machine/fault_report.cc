#include "vmm/machine/fault_report.h"

#include <capstone/capstone.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "vmm/machine/page_walk.h"

namespace pacsvisor {
namespace {

constexpr size_t kCodeBytes = 48;
constexpr size_t kInstructions = 8;
constexpr uint64_t kEferLongModeActive = uint64_t{1} << 10;

std::string Registers(const kvm_regs& r, const kvm_sregs& s) {
  return fmt::format(
      "  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}\n"
      "  rsi {:016x}  rdi {:016x}  rbp {:016x}  rsp {:016x}\n"
      "  r8  {:016x}  r9  {:016x}  r10 {:016x}  r11 {:016x}\n"
      "  r12 {:016x}  r13 {:016x}  r14 {:016x}  r15 {:016x}\n"
      "  rip {:016x}  rflags {:08x}  CPL {}\n"
      "  cr0 {:08x}  cr2 {:016x}  cr3 {:016x}  cr4 {:08x}  efer {:04x}\n"
      "  cs {:04x} base {:x}  ss {:04x}  ds {:04x}  es {:04x}  fs base {:x}  gs base {:x}\n"
      "  gdt {:x}+{:x}  idt {:x}+{:x}  tr {:04x} base {:x}  apic base {:x}\n",
      r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12,
      r.r13, r.r14, r.r15, r.rip, r.rflags, s.ss.dpl, s.cr0, s.cr2, s.cr3, s.cr4, s.efer,
      s.cs.selector, s.cs.base, s.ss.selector, s.ds.selector, s.es.selector, s.fs.base, s.gs.base,
      s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit, s.tr.selector, s.tr.base, s.apic_base);
}

std::string DescribeWalk(std::string_view what, uint64_t linear, const PageWalk& walk) {
  std::string text = fmt::format("  {} {:#x}:", what, linear);
  for (const PageWalk::Step& step : walk.steps) {
    text += fmt::format(" {}[{}]={:#x}", step.level, step.entry_address, step.entry);
  }
  text += fmt::format(" -> {}", walk.ending);
  if (walk.physical.has_value()) {
    text += fmt::format(" at {}", *walk.physical);
  }
  return text + "\n";
}

// Code from RIP on, as far as its page and memory reach.
std::vector<uint8_t> CodeAt(const GuestMemory& memory, const kvm_sregs& sregs, uint64_t linear) {
  const PageWalk walk = WalkPages(memory, sregs, linear);
  if (!walk.physical.has_value()) {
    return {};
  }
  const uint64_t in_page = kPageSizeBytes - linear % kPageSizeBytes;
  std::vector<uint8_t> code(std::min<uint64_t>(kCodeBytes, in_page));
  if (!memory.Read(*walk.physical, code)) {
    return {};
  }
  return code;
}

cs_mode ModeOf(const kvm_sregs& sregs) {
  if ((sregs.efer & kEferLongModeActive) != 0 && sregs.cs.l != 0) {
    return CS_MODE_64;
  }
  return sregs.cs.db != 0 ? CS_MODE_32 : CS_MODE_16;
}

std::string Disassemble(const std::vector<uint8_t>& code, uint64_t address, cs_mode mode) {
  csh handle = 0;
  if (cs_open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK) {
    return "  (the disassembler could not start)\n";
  }
  cs_insn* instructions = nullptr;
  const size_t count =
      cs_disasm(handle, code.data(), code.size(), address, kInstructions, &instructions);
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    std::string bytes;
    for (size_t b = 0; b < instructions[i].size; ++b) {
      bytes += fmt::format("{:02x} ", instructions[i].bytes[b]);
    }
    text += fmt::format("  {} {:016x}: {:<30} {} {}\n", i == 0 ? ">" : " ", instructions[i].address,
                        bytes, instructions[i].mnemonic, instructions[i].op_str);
  }
  if (count == 0) {
    for (const uint8_t byte : code) {
      text += fmt::format("{}{:02x}", text.empty() ? "  no instruction: " : " ", byte);
    }
    text += "\n";
  }
  if (instructions != nullptr) {
    cs_free(instructions, count);
  }
  cs_close(&handle);
  return text;
}

}  // namespace

std::string MakeFaultReport(const KvmVcpu& vcpu, const GuestMemory& memory,
                            const std::string& reason) {
  std::string text = fmt::format("vCPU {} stopped: {}\n", vcpu.id(), reason);
  const Result<kvm_regs> regs = vcpu.GetRegisters();
  const Result<kvm_sregs> sregs = vcpu.GetSpecialRegisters();
  if (!regs.ok() || !sregs.ok()) {
    return text + "  registers cannot be read: " +
           (regs.ok() ? sregs.error().message() : regs.error().message()) + "\n";
  }
  text += Registers(*regs, *sregs);
  // In long mode the code segment's base counts as 0.
  const bool long_mode = ModeOf(*sregs) == CS_MODE_64;
  const uint64_t linear = regs->rip + (long_mode ? 0 : sregs->cs.base);
  const std::vector<uint8_t> code = CodeAt(memory, *sregs, linear);
  text += code.empty() ? fmt::format("  no code can be read at {:#x}\n", linear)
                       : Disassemble(code, linear, ModeOf(*sregs));
  text += DescribeWalk("rip", linear, WalkPages(memory, *sregs, linear));
  text += DescribeWalk("cr2", sregs->cr2, WalkPages(memory, *sregs, sregs->cr2));
  return text;
}

}  // namespace pacsvisor
