#include "guests/freestanding/ring0.h"

#include "guests/freestanding/layout.h"

namespace pacsvisor {
namespace {

struct Ring0Registers {
  uint32_t eax, ebx, ecx, edx;
};

extern "C" void Ring0Call(uint32_t request, Ring0Registers* registers);
extern "C" uint8_t io_permissions[];

}  // namespace

CpuidResult Cpuid(uint32_t leaf, uint32_t subleaf) {
  Ring0Registers registers{leaf, 0, subleaf, 0};
  Ring0Call(RING0_CPUID, &registers);
  return {registers.eax, registers.ebx, registers.ecx, registers.edx};
}

void WriteMsr(uint32_t index, uint64_t value) {
  Ring0Registers registers{static_cast<uint32_t>(value), 0, index,
                           static_cast<uint32_t>(value >> 32)};
  Ring0Call(RING0_WRITE_MSR, &registers);
}

void SleepFor(uint64_t cycles) {
  Ring0Registers registers{static_cast<uint32_t>(cycles), 0, 0,
                           static_cast<uint32_t>(cycles >> 32)};
  Ring0Call(RING0_SLEEP, &registers);
}

void HaltProcessor() {
  for (;;) Ring0Call(RING0_HALT, nullptr);
}

void TripleFault() {
  for (;;) Ring0Call(RING0_TRIPLE_FAULT, nullptr);
}

void AllowPorts(uint16_t port, uint16_t count) {
  for (uint32_t p = port; p < uint32_t{port} + count && p < 0x10000; ++p) {
    io_permissions[p / 8] = static_cast<uint8_t>(io_permissions[p / 8] & ~(1u << (p % 8)));
  }
}

}  // namespace pacsvisor
