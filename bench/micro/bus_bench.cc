// A guest's access on its way to a device: the bus alone, PCI configuration space by ECAM and by
// CF8/CFC.
#include <benchmark/benchmark.h>

#include "tests/support/pci_machine.h"

namespace pacsvisor {
namespace {

class NullDevice : public BusDevice {
 public:
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    data[0] = static_cast<uint8_t>(offset);
  }
  void Write(uint64_t, std::span<const uint8_t>) override {}
};

// Argument: devices on the bus, as many BARs.
void BarWrite(benchmark::State& state) {
  Bus bus("MMIO", uint64_t{1} << 40);
  NullDevice device;
  const auto count = static_cast<uint64_t>(state.range(0));
  for (uint64_t i = 0; i < count; ++i) {
    CHECK(bus.Insert(i * kMiB, 0x4000, device).ok());
  }
  const uint8_t data[4] = {};
  uint64_t next = 0;
  for (auto _ : state) {
    next = (next + 7) % count;
    CHECK(bus.Write(next * kMiB + 0x3000, data));
  }
}
BENCHMARK(BarWrite)->Arg(8)->Arg(64);

void ConfigByEcam(benchmark::State& state) {
  PciMachine machine;
  for (auto _ : state) {
    benchmark::DoNotOptimize(machine.ReadConfig<uint32_t>(0, 0));
  }
}
BENCHMARK(ConfigByEcam);

void ConfigByPorts(benchmark::State& state) {
  PciMachine machine;
  for (auto _ : state) {
    machine.WritePort<uint32_t>(kPciPortsStart, 0x8000'0000);
    benchmark::DoNotOptimize(machine.ReadPort<uint32_t>(kPciPortsStart + 4));
  }
}
BENCHMARK(ConfigByPorts);

}  // namespace
}  // namespace pacsvisor
