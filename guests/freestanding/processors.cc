#include "guests/freestanding/processors.h"

#include <atomic>

#include "guests/freestanding/cpu.h"
#include "guests/freestanding/layout.h"
#include "guests/freestanding/traps.h"

namespace pacsvisor {
namespace {

// SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)".
constexpr uint64_t kApicBase = 0xfee00000;
constexpr uint64_t kSpuriousVector = kApicBase + 0xf0;
constexpr uint64_t kCommandLow = kApicBase + 0x300;
constexpr uint64_t kCommandHigh = kApicBase + 0x310;
constexpr uint32_t kApicEnable = 0x1ff;
constexpr uint32_t kAllButSelf = 3u << 18;
constexpr uint32_t kAssert = 1u << 14;
constexpr uint32_t kInit = 5u << 8;
constexpr uint32_t kStartUp = 6u << 8;
constexpr uint32_t kPending = 1u << 12;
constexpr uint32_t kNoApic = 0xffffffff;

extern "C" const uint8_t ap_start[];
extern "C" const uint8_t ap_start_end[];

constinit std::atomic<uint64_t> wanted = 0;
constinit std::atomic<uint64_t> arrived = 0;

void WaitCycles(uint64_t cycles) {
  const uint64_t begin = ReadTsc();
  while (ReadTsc() - begin < cycles) SpinPause();
}

void SendToOthers(uint32_t command, uint64_t tsc_hz) {
  WriteDevice32(kCommandHigh, 0);
  WriteDevice32(kCommandLow, kAllButSelf | kAssert | command);
  const uint64_t begin = ReadTsc();
  while ((ReadDevice32(kCommandLow) & kPending) != 0) {
    if (ReadTsc() - begin > tsc_hz) Panic("an inter-processor interrupt stays pending");
  }
}

bool AllArrivedWithin(uint64_t cycles) {
  const uint64_t begin = ReadTsc();
  while (arrived.load(std::memory_order_acquire) + 1 < wanted.load(std::memory_order_relaxed)) {
    if (ReadTsc() - begin > cycles) return false;
    SpinPause();
  }
  return true;
}

}  // namespace

void StartProcessors(uint64_t count, uint64_t tsc_hz) {
  wanted.store(count, std::memory_order_release);
  if (count <= 1) return;
  if (ReadDevice32(kSpuriousVector) == kNoApic) Panic("no xAPIC to start processors with");
  auto* low_page = AtAddress<volatile uint8_t>(AP_START_PAGE);
  const uint64_t bytes =
      reinterpret_cast<uint64_t>(ap_start_end) - reinterpret_cast<uint64_t>(ap_start);
  for (uint64_t i = 0; i < bytes; ++i) low_page[i] = ap_start[i];

  WriteDevice32(kSpuriousVector, kApicEnable);
  // SDM volume 3, "Typical BSP Initialization Sequence": INIT, 10 ms, start-up, and once more for
  // those that did not come.
  SendToOthers(kInit, tsc_hz);
  WaitCycles(tsc_hz / 100);
  SendToOthers(kStartUp | AP_START_PAGE >> 12, tsc_hz);
  if (AllArrivedWithin(tsc_hz / 10)) return;
  SendToOthers(kStartUp | AP_START_PAGE >> 12, tsc_hz);
  if (!AllArrivedWithin(2 * tsc_hz)) Panic("fewer processors came than cpus= says");
}

bool ArriveAsProcessor(uint64_t number) {
  // Acquire: what processor 0 prepared before StartProcessors is visible.
  if (number >= wanted.load(std::memory_order_acquire)) return false;
  arrived.fetch_add(1, std::memory_order_release);
  return true;
}

}  // namespace pacsvisor
