// The sources of vCPUs' writes: what a harvest costs by what was written and by memory size, and
// what a write costs that is watched.
#include <benchmark/benchmark.h>

#include <optional>
#include <vector>

#include "tests/support/dirty_source_kind.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kRingEntries = DirtyRingSource::kDefaultEntries;

// A guest that is watched, and the pages it writes: every other one, none of them a huge page's
// first touch.
class Watched {
 public:
  Watched(std::optional<DirtySourceKind> kind, uint64_t memory_bytes, uint64_t dirty)
      : guest_({.memory_bytes = memory_bytes,
                .ring_entries = kind == DirtySourceKind::kRing ? kRingEntries : 0}),
        words_(guest_.memory().dirty().word_count()) {
    const std::vector<uint64_t> free_pages = guest_.FreePages();
    for (uint64_t i = 0; i < dirty; ++i) {
      pages_.push_back(free_pages[2 * i]);
    }
    guest_.Write(0, pages_);
    if (kind) {
      source_ = MakeDirtySource(*kind, guest_, 1, kRingEntries).value();
      source_->Start().value();
      Write();
      Harvest();
    }
  }

  void Write() { guest_.Write(0, pages_); }
  void Harvest() {
    std::fill(words_.begin(), words_.end(), 0);
    source_->Harvest(words_).value();
  }

 private:
  WritingGuest guest_;
  std::unique_ptr<DirtySource> source_;
  std::vector<uint64_t> words_;
  std::vector<uint64_t> pages_;
};

bool HasKvm(benchmark::State& state) {
  const Result<std::unique_ptr<KvmSystem>> system = KvmSystem::Open();
  if (!system.ok()) {
    state.SkipWithError(system.error().message().c_str());
  }
  return system.ok();
}

// Arguments: MiB of memory; pages written before each harvest, which are taken and watched anew.
void HarvestPages(benchmark::State& state, DirtySourceKind kind) {
  if (!HasKvm(state)) {
    return;
  }
  Watched watched(kind, static_cast<uint64_t>(state.range(0)) * kMiB,
                  static_cast<uint64_t>(state.range(1)));
  for (auto _ : state) {
    state.PauseTiming();
    watched.Write();
    state.ResumeTiming();
    watched.Harvest();
  }
  state.SetItemsProcessed(state.iterations() * state.range(1));
}

// Argument: pages written, each for the first time since a harvest. The harvest is not counted.
void WritePages(benchmark::State& state, std::optional<DirtySourceKind> kind) {
  if (!HasKvm(state)) {
    return;
  }
  Watched watched(kind, 512 * kMiB, static_cast<uint64_t>(state.range(0)));
  for (auto _ : state) {
    watched.Write();
    state.PauseTiming();
    if (kind) {
      watched.Harvest();
    }
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

#define PV_TRACKING(name, kind)               \
  BENCHMARK_CAPTURE(HarvestPages, name, kind) \
      ->Args({512, 0})                        \
      ->Args({512, 1024})                     \
      ->Args({512, 16 * 1024})                \
      ->UseRealTime()                         \
      ->Unit(benchmark::kMicrosecond);        \
  BENCHMARK_CAPTURE(WritePages, name, kind)->Arg(1024)->UseRealTime()->Unit(benchmark::kMicrosecond)

PV_TRACKING(bitmap, DirtySourceKind::kBitmap);
PV_TRACKING(bitmap_get_clears, DirtySourceKind::kBitmapGetClears);
PV_TRACKING(ring, DirtySourceKind::kRing);
PV_TRACKING(pagemap, DirtySourceKind::kPagemap);
PV_TRACKING(compare, DirtySourceKind::kCompare);
BENCHMARK_CAPTURE(WritePages, unwatched, std::nullopt)
    ->Arg(1024)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

// Much memory, nothing written.
BENCHMARK_CAPTURE(HarvestPages, bitmap, DirtySourceKind::kBitmap)
    ->Args({4096, 0})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(HarvestPages, ring, DirtySourceKind::kRing)
    ->Args({4096, 0})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(HarvestPages, pagemap, DirtySourceKind::kPagemap)
    ->Args({4096, 0})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

#undef PV_TRACKING

}  // namespace
}  // namespace pacsvisor
