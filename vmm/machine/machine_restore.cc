#include "vmm/machine/machine_restore.h"

#include <algorithm>
#include <vector>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/machine/working_set.h"
#include "vmm/snapshot/memory_space.h"
#include "vmm/snapshot/snapshot_pages.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kPagesRead = 256;  // at a time

Status FillMemory(MemorySpace& memory, PageSource& pages) {
  std::vector<uint8_t> bytes(kPagesRead * kPageSizeBytes);
  for (uint64_t page = 0; page < memory.block_count();) {
    const uint64_t zero = TRY(pages.ZeroRun(BlockIndex(page)));
    if (zero > 0) {
      page += zero;
      continue;
    }
    const uint64_t count = std::min(kPagesRead, memory.block_count() - page);
    const std::span<uint8_t> part(bytes.data(), count * kPageSizeBytes);
    TRY(pages.Fetch(BlockIndex(page), part));
    TRY(memory.Write(BlockIndex(page), part));
    page += count;
  }
  return {};
}

void ForgetMarks(DirtyBitmap& marks) {
  std::vector<uint64_t> words(marks.word_count());
  marks.TakeInto(words);
}

Status RestoreMemory(Machine& machine, std::shared_ptr<SnapshotPages> pages, MemoryFill fill,
                     const StateNode& state) {
  const Status can_be_lazy = machine.CanRestoreLazily();
  if (fill == MemoryFill::kLazy && can_be_lazy.ok()) {
    return machine.RestoreLazily(std::move(pages), LoadWorkingSet(state));
  }
  if (fill == MemoryFill::kLazy) {
    Log(LogLevel::kInfo, "all of memory is read before the guest starts: {}",
        can_be_lazy.error().message());
  }
  MemorySpace memory(machine.memory());
  TRY(FillMemory(memory, *pages));
  ForgetMarks(machine.memory().dirty());
  return {};
}

}  // namespace

Status RestoreMachine(Machine& machine, const std::shared_ptr<SnapshotReader>& snapshot,
                      RestoredClock clock, MemoryFill fill) {
  std::shared_ptr<SnapshotPages> pages =
      TRY(SnapshotPages::Create(snapshot, MemorySpace(machine.memory())));
  const std::vector<uint8_t> bytes = TRY(snapshot->State());
  const StateNode state = TRY(DecodeState(bytes));
  TRY(RestoreMemory(machine, std::move(pages), fill, state));
  const uint64_t now_ns = RealtimeNs();
  const uint64_t instant_ns = snapshot->info().draft.instant_ns;
  const uint64_t away_ns = now_ns > instant_ns ? now_ns - instant_ns : 0;
  TRY(machine.Load(state, clock == RestoredClock::kAdvance ? away_ns : 0));
  return machine.RenewGenerationId();
}

}  // namespace pacsvisor
