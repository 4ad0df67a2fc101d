#include "guests/dirtier/clock.h"

#include "guests/freestanding/cpu.h"
#include "guests/freestanding/ring0.h"
#include "guests/freestanding/traps.h"

namespace pacsvisor::dirtier {
namespace {

// Outside of these a source has not told the truth. The upper bound keeps Clock's scale exact.
constexpr uint64_t kLowestHz = 10'000'000;
constexpr uint64_t kHighestHz = 100'000'000'000;

bool IsPlausible(uint64_t hz) { return hz >= kLowestHz && hz <= kHighestHz; }

// Linux, Documentation/virt/kvm/x86/cpuid.rst and msr.rst.
constexpr uint32_t kHypervisorLeaf = 0x40000000;
constexpr uint32_t kKvmFeaturesLeaf = 0x40000001;
constexpr uint32_t kTscFrequencyLeaf = 0x40000010;  // EAX: kHz; also VMware's
constexpr uint32_t kFeatureClocksource2 = 1u << 3;
constexpr uint32_t kMsrSystemTime = 0x4b564d01;
constexpr uint64_t kSystemTimeEnable = 1;
constexpr uint32_t kKvmSignature = 0x4b4d564b;  // "KVMK"
constexpr uint32_t kHypervisorPresent = 1u << 31;

struct KvmClockPage {
  uint32_t version;
  uint32_t pad;
  uint64_t tsc_timestamp;
  uint64_t system_time;
  uint32_t tsc_to_system_mul;
  int8_t tsc_shift;
  uint8_t flags;
  uint8_t pad_2[2];
};
static_assert(sizeof(KvmClockPage) == 32);

alignas(64) constinit volatile KvmClockPage kvm_clock_page = {};

bool HasHypervisor() { return (Cpuid(1).ecx & kHypervisorPresent) != 0; }

uint64_t HzFromHypervisorLeaf() {
  if (!HasHypervisor() || Cpuid(kHypervisorLeaf).eax < kTscFrequencyLeaf) return 0;
  return uint64_t{Cpuid(kTscFrequencyLeaf).eax} * 1000;
}

// nanoseconds = (cycles << shift) * mul >> 32, so a second's cycles are 10^9 << 32 / mul >> shift.
uint64_t HzFromKvmClock() {
  if (!HasHypervisor()) return 0;
  const CpuidResult base = Cpuid(kHypervisorLeaf);
  if (base.ebx != kKvmSignature) return 0;
  if ((Cpuid(kKvmFeaturesLeaf).eax & kFeatureClocksource2) == 0) return 0;
  const auto page = reinterpret_cast<uint64_t>(&kvm_clock_page);
  WriteMsr(kMsrSystemTime, page | kSystemTimeEnable);
  const uint64_t mul = kvm_clock_page.tsc_to_system_mul;
  const int shift = kvm_clock_page.tsc_shift;
  // Off again: KVM would go on writing the page.
  WriteMsr(kMsrSystemTime, 0);
  if (mul == 0 || shift > 31 || shift < -31) return 0;
  const uint64_t hz = (uint64_t{1'000'000'000} << 32) / mul;
  return shift >= 0 ? hz >> shift : hz << -shift;
}

// SDM volume 2, CPUID: EBX / EAX is the TSC's ratio to the crystal, ECX the crystal in Hz.
uint64_t HzFromCrystal() {
  if (Cpuid(0).eax < 0x15) return 0;
  const CpuidResult crystal = Cpuid(0x15);
  if (crystal.eax == 0 || crystal.ebx == 0) return 0;
  return uint64_t{crystal.ecx} * crystal.ebx / crystal.eax;
}

// Intel 8254: channel 2, mode 0, whose output shows at bit 5 of port 0x61.
uint64_t HzFromPit() {
  constexpr uint64_t kPitHz = 1'193'182;
  constexpr uint16_t kCount = kPitHz / 20;
  constexpr uint16_t kChannel2 = 0x42;
  constexpr uint16_t kMode = 0x43;
  constexpr uint16_t kGate = 0x61;
  constexpr uint8_t kOutput = 0x20;
  constexpr uint32_t kMaxLooks = 2'000'000;
  AllowPorts(kChannel2, 2);
  AllowPorts(kGate, 1);
  WritePort8(kGate, static_cast<uint8_t>((ReadPort8(kGate) & ~0x02) | 0x01));
  WritePort8(kMode, 0xb0);
  WritePort8(kChannel2, kCount & 0xff);
  WritePort8(kChannel2, kCount >> 8);
  const uint64_t begin = ReadTsc();
  // Without a PIT the port reads as ones, at once: an implausible frequency.
  for (uint32_t look = 0; look < kMaxLooks; ++look) {
    if ((ReadPort8(kGate) & kOutput) != 0) return (ReadTsc() - begin) * kPitHz / kCount;
  }
  return 0;
}

}  // namespace

TscFrequency FindTscFrequency(const Arguments& command_line) {
  if (const auto text = command_line.Find("tsc_hz")) {
    const auto hz = ParseNumber(*text);
    if (!hz || !IsPlausible(*hz)) Panic("tsc_hz= is not a frequency in Hz");
    return {*hz, "command-line"};
  }
  if (const uint64_t hz = HzFromHypervisorLeaf(); IsPlausible(hz)) return {hz, "cpuid-0x40000010"};
  if (const uint64_t hz = HzFromKvmClock(); IsPlausible(hz)) return {hz, "kvm-clock"};
  if (const uint64_t hz = HzFromCrystal(); IsPlausible(hz)) return {hz, "cpuid-0x15"};
  if (const uint64_t hz = HzFromPit(); IsPlausible(hz)) return {hz, "pit"};
  Panic("no source tells the TSC's frequency: give tsc_hz= on the command line");
}

}  // namespace pacsvisor::dirtier
