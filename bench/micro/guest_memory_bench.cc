// Guest memory's accessors, marking included. Argument: bytes an access.
#include <benchmark/benchmark.h>

#include <vector>

#include "vmm/memory/guest_memory.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kMemoryBytes = 64 * kMiB;
// A stride that visits every page before it comes back: no page is warmer than the others.
constexpr uint64_t kStridePages = 4099;

std::unique_ptr<GuestMemory> MakeMemory() {
  auto memory =
      GuestMemory::Create(MemoryLayout::Create(kMemoryBytes, 40).value(), MemoryBacking::kAnonymous)
          .value();
  CHECK(memory->Fill({GuestAddress(0), kMemoryBytes}, 1));  // populated: no faults are measured
  return memory;
}

GuestAddress NextPage(uint64_t& page, uint64_t size_bytes) {
  page = (page + kStridePages) % ((kMemoryBytes - size_bytes) / kPageSizeBytes);
  return GuestAddress(page * kPageSizeBytes);
}

void ReadMemory(benchmark::State& state) {
  const auto memory = MakeMemory();
  std::vector<uint8_t> bytes(static_cast<size_t>(state.range(0)));
  uint64_t page = 0;
  for (auto _ : state) {
    CHECK(memory->Read(NextPage(page, bytes.size()), bytes));
    benchmark::DoNotOptimize(bytes.data());
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(ReadMemory)->Arg(16)->Arg(4096)->Arg(65536);

void WriteMemory(benchmark::State& state) {
  const auto memory = MakeMemory();
  const std::vector<uint8_t> bytes(static_cast<size_t>(state.range(0)), 2);
  uint64_t page = 0;
  for (auto _ : state) {
    CHECK(memory->Write(NextPage(page, bytes.size()), bytes));
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(WriteMemory)->Arg(16)->Arg(4096)->Arg(65536);

void StoreRingIndex(benchmark::State& state) {
  const auto memory = MakeMemory();
  uint16_t value = 0;
  for (auto _ : state) {
    CHECK(memory->StoreRelease16(GuestAddress(kMiB), ++value));
  }
}
BENCHMARK(StoreRingIndex);

}  // namespace
}  // namespace pacsvisor
