#include "guests/freestanding/traps.h"

#include "guests/freestanding/layout.h"
#include "guests/freestanding/ring0.h"

namespace pacsvisor {
namespace {

// SDM volume 3, "64-Bit IDT Gate Descriptors".
struct Gate {
  uint16_t offset_low;
  uint16_t selector;
  uint8_t stack;  // interrupt stack table index
  uint8_t type;
  uint16_t offset_middle;
  uint32_t offset_high;
  uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);

constexpr uint8_t kInterruptGate = 0x8e;          // present, DPL 0
constexpr uint8_t kInterruptGateForUsers = 0xee;  // present, DPL 3
constexpr uint64_t kBreakpoint = 3;
constexpr uint64_t kDoubleFault = 8;
constexpr uint64_t kTrapStubBytes = 16;  // traps.S aligns them so

extern "C" Gate idt[IDT_ENTRIES];
extern "C" char trap_stubs[];

constexpr std::string_view kNames[IDT_ENTRIES] = {"divide-error",
                                                  "debug",
                                                  "nmi",
                                                  "breakpoint",
                                                  "overflow",
                                                  "bound-range",
                                                  "invalid-opcode",
                                                  "no-fpu",
                                                  "double-fault",
                                                  "reserved",
                                                  "invalid-tss",
                                                  "segment-not-present",
                                                  "stack-segment",
                                                  "general-protection",
                                                  "page-fault",
                                                  "reserved",
                                                  "fpu-error",
                                                  "alignment-check",
                                                  "machine-check",
                                                  "simd-error",
                                                  "virtualization",
                                                  "control-protection"};

constinit Serial* report_serial = nullptr;

}  // namespace

void InstallTraps(Serial* serial) {
  report_serial = serial;
  for (uint64_t vector = 0; vector < IDT_ENTRIES; ++vector) {
    const auto stub = reinterpret_cast<uint64_t>(trap_stubs) + vector * kTrapStubBytes;
    idt[vector] = {
        .offset_low = static_cast<uint16_t>(stub),
        .selector = SELECTOR_CODE0,
        .stack = static_cast<uint8_t>(vector == kDoubleFault ? 1 : 0),
        .type = vector == kBreakpoint ? kInterruptGateForUsers : kInterruptGate,
        .offset_middle = static_cast<uint16_t>(stub >> 16),
        .offset_high = static_cast<uint32_t>(stub >> 32),
        .reserved = 0,
    };
  }
}

void Panic(std::string_view what) {
  if (report_serial != nullptr) Line(*report_serial, "event", "panic").Text("what", what);
  TripleFault();
}

extern "C" [[noreturn]] void ReportTrap(const TrapFrame* frame) {
  const uint64_t vector = frame->vector;
  Line(*report_serial, "event", "exception")
      .Number("vector", vector)
      .Text("name", vector < IDT_ENTRIES && !kNames[vector].empty() ? kNames[vector] : "reserved")
      .Hex("error", frame->error_code)
      .Hex("rip", frame->rip)
      .Hex("cs", frame->cs)
      .Hex("rflags", frame->rflags)
      .Hex("rsp", frame->rsp)
      .Hex("cr2", frame->cr2)
      .Hex("rax", frame->rax)
      .Hex("rbx", frame->rbx)
      .Hex("rcx", frame->rcx)
      .Hex("rdx", frame->rdx)
      .Hex("rsi", frame->rsi)
      .Hex("rdi", frame->rdi)
      .Hex("rbp", frame->rbp)
      .Hex("r8", frame->r8)
      .Hex("r9", frame->r9)
      .Hex("r10", frame->r10)
      .Hex("r11", frame->r11)
      .Hex("r12", frame->r12)
      .Hex("r13", frame->r13)
      .Hex("r14", frame->r14)
      .Hex("r15", frame->r15);
  TripleFault();
}

}  // namespace pacsvisor
