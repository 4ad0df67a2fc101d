// What the faults of guest memory cost: a missing page that somebody waits for, one that is fetched
// ahead, protecting pages, and a write to a protected one. The source hands out pages at no cost of
// its own: what a store adds comes on top. CPU is that of all threads together.
#include <benchmark/benchmark.h>

#include <numeric>
#include <vector>

#include "vmm/memory/memory_faults.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kMemoryBytes = 64 * kMiB;
constexpr uint64_t kPages = kMemoryBytes / kPageSizeBytes;
constexpr uint64_t kWaitNs = 60'000'000'000;

class ReadySource : public PageSource {
 public:
  explicit ReadySource(bool zero) : zero_(zero) {}
  Status Fetch(BlockIndex /*first*/, std::span<uint8_t> bytes) override {
    bytes[0] = 1;
    return {};
  }
  Result<uint64_t> ZeroRun(BlockIndex first) override { return zero_ ? kPages - first.raw() : 0; }

 private:
  const bool zero_;
};

class ReadySink : public ResidueSink {
 public:
  Result<std::span<uint8_t>> Reserve(Extent pages) override {
    return std::span(bytes_).subspan(pages.first.raw() * kPageSizeBytes,
                                     pages.count * kPageSizeBytes);
  }
  void Landed(Extent /*pages*/) override {}

 private:
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kMemoryBytes, 1);
};

struct Machine {
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<MemoryFaults> faults;
};

// None, and the bench is left out, where this user has no userfaultfd.
std::unique_ptr<Machine> MakeMachine(benchmark::State& state, MemoryFaultsOptions options) {
  Result<std::shared_ptr<const UserFaultFd>> uffd = UserFaultFd::OpenShared();
  if (!uffd.ok()) {
    state.SkipWithError(uffd.error().message().c_str());
    return nullptr;
  }
  auto machine = std::make_unique<Machine>();
  machine->memory =
      GuestMemory::Create(MemoryLayout::Create(kMemoryBytes, 40).value(), MemoryBacking::kAnonymous)
          .value();
  machine->faults =
      MemoryFaults::Create(*machine->memory, std::move(*uffd), std::move(options)).value();
  return machine;
}

void CountPages(benchmark::State& state, uint64_t pages) {
  state.counters["page"] =
      benchmark::Counter(static_cast<double>(pages), benchmark::Counter::kIsIterationInvariantRate |
                                                         benchmark::Counter::kInvert);
}

// Argument: pages of a cluster. One byte of each cluster is read.
void MissingFault(benchmark::State& state) {
  const auto cluster_pages = static_cast<uint64_t>(state.range(0));
  const auto machine = MakeMachine(state, {.cluster_pages = cluster_pages, .prefetch = false});
  if (machine == nullptr) {
    return;
  }
  uint64_t page = kPages;
  for (auto _ : state) {
    if (page >= kPages) {
      state.PauseTiming();
      CHECK(machine->faults->WaitUntilWhole(kWaitNs));
      CHECK(machine->faults->StartLazy(std::make_shared<ReadySource>(false), {}).ok());
      page = 0;
      state.ResumeTiming();
    }
    uint8_t byte = 0;
    CHECK(machine->memory->Read(GuestAddress(page * kPageSizeBytes), {&byte, 1}));
    page += cluster_pages;
  }
  CountPages(state, cluster_pages);
}
BENCHMARK(MissingFault)->Arg(1)->Arg(16)->Arg(64)->MeasureProcessCPUTime()->UseRealTime();

// All of memory by the background thread. Arguments: pages of a burst, whether they are zero.
void Prefetch(benchmark::State& state) {
  const auto machine =
      MakeMachine(state, {.prefetch_pages = static_cast<uint64_t>(state.range(0))});
  if (machine == nullptr) {
    return;
  }
  for (auto _ : state) {
    CHECK(machine->faults->StartLazy(std::make_shared<ReadySource>(state.range(1) != 0), {}).ok());
    CHECK(machine->faults->WaitUntilWhole(kWaitNs));
  }
  CountPages(state, kPages);
}
BENCHMARK(Prefetch)
    ->Args({16, 0})
    ->Args({64, 0})
    ->Args({64, 1})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

std::vector<Extent> EveryOther(uint64_t run_pages) {
  std::vector<Extent> extents;
  for (uint64_t page = 0; page < kPages; page += 2 * run_pages) {
    extents.push_back({BlockIndex(page), run_pages});
  }
  return extents;
}

enum class Phase { kProtect, kCopyRest };

// Half of memory in runs, of 4 KiB pages. Argument: pages of a run.
void ResiduePhase(benchmark::State& state, Phase timed) {
  const auto machine = MakeMachine(state, {});
  if (machine == nullptr) {
    return;
  }
  // Fetched page by page: no huge pages, as in a guest that has run for a while.
  CHECK(machine->faults->StartLazy(std::make_shared<ReadySource>(false), {}).ok());
  CHECK(machine->faults->WaitUntilWhole(kWaitNs));
  const std::vector<Extent> extents = EveryOther(static_cast<uint64_t>(state.range(0)));
  std::vector<uint64_t> words(kPages / 64);
  ReadySink sink;
  for (auto _ : state) {
    if (timed == Phase::kCopyRest) {
      state.PauseTiming();
    }
    CHECK(machine->faults->BeginResidue(sink, words).ok());
    CHECK(machine->faults->ProtectResidue(extents).ok());
    timed == Phase::kCopyRest ? state.ResumeTiming() : state.PauseTiming();
    CHECK(machine->faults->CopyRest().ok());
    if (timed == Phase::kProtect) {
      state.ResumeTiming();
    }
  }
  CountPages(state, kPages / 2);
}
BENCHMARK_CAPTURE(ResiduePhase, protect, Phase::kProtect)
    ->Arg(1)
    ->Arg(8)
    ->Arg(512)
    ->MeasureProcessCPUTime()
    ->UseRealTime();
BENCHMARK_CAPTURE(ResiduePhase, copy_rest, Phase::kCopyRest)
    ->Arg(1)
    ->Arg(64)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

// The first write to a page: of the residue (copied), or armed ahead (listed).
void WriteFault(benchmark::State& state, bool copied) {
  const auto machine = MakeMachine(state, {});
  if (machine == nullptr) {
    return;
  }
  CHECK(machine->memory->Fill({GuestAddress(0), kMemoryBytes}, 1));
  const Extent all = {BlockIndex(0), kPages};
  std::vector<uint64_t> words(kPages / 64);
  ReadySink sink;
  uint64_t page = kPages;
  for (auto _ : state) {
    if (page >= kPages) {
      state.PauseTiming();
      CHECK(machine->faults->AbandonResidue().ok());
      if (copied) {
        CHECK(machine->faults->BeginResidue(sink, words).ok());
        CHECK(machine->faults->ProtectResidue({&all, 1}).ok());
      } else {
        CHECK(machine->faults->ArmResidue({&all, 1}).ok());
      }
      page = 0;
      state.ResumeTiming();
    }
    CHECK(machine->memory->WriteObject(GuestAddress(page * kPageSizeBytes), page));
    ++page;
  }
  CHECK(machine->faults->AbandonResidue().ok());
}
BENCHMARK_CAPTURE(WriteFault, copied, true)->MeasureProcessCPUTime()->UseRealTime();
BENCHMARK_CAPTURE(WriteFault, listed, false)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace
}  // namespace pacsvisor
