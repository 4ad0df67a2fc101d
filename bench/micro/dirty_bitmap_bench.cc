// Marking blocks, and taking the set of a 4 GiB space.
#include <benchmark/benchmark.h>

#include <vector>

#include "vmm/dirty/dirty_bitmap.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBlocks = 1 << 20;  // 4 GiB of pages
constexpr uint64_t kStride = 4099;     // visits every block before it comes back

// Argument: blocks at once.
void MarkBlocks(benchmark::State& state) {
  DirtyBitmap bitmap(kBlocks);
  const auto count = static_cast<uint64_t>(state.range(0));
  uint64_t block = 0;
  for (auto _ : state) {
    block = (block + kStride) % (kBlocks - count);
    bitmap.MarkRange(BlockIndex(block), count);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(MarkBlocks)->Arg(1)->Arg(16)->Arg(256);

// Argument: dirty blocks, scattered. Items are dirty blocks: one costs the inverse of the rate.
void TakeSet(benchmark::State& state) {
  DirtyBitmap bitmap(kBlocks);
  std::vector<uint64_t> words(bitmap.word_count());
  for (auto _ : state) {
    state.PauseTiming();
    for (int64_t i = 0; i < state.range(0); ++i) {
      bitmap.Mark(BlockIndex(static_cast<uint64_t>(i) * kStride % kBlocks));
    }
    std::fill(words.begin(), words.end(), 0);
    state.ResumeTiming();
    bitmap.TakeInto(words);
    benchmark::DoNotOptimize(ExtentsOf(words, kBlocks).size());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(TakeSet)->Arg(0)->Arg(1 << 10)->Arg(1 << 17)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace pacsvisor
