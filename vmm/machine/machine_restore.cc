#include "vmm/machine/machine_restore.h"

#include <algorithm>
#include <vector>

#include "vmm/base/clock.h"
#include "vmm/snapshot/memory_space.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kPagesRead = 256;  // at a time

Result<uint32_t> FindMemory(const SnapshotInfo& info, const MemorySpace& memory) {
  const uint64_t size_bytes = memory.block_count() * memory.block_bytes();
  for (uint32_t i = 0; i < info.spaces.size(); ++i) {
    if (info.spaces[i].name == memory.name()) {
      if (info.spaces[i].size_bytes == size_bytes &&
          info.spaces[i].block_bytes == memory.block_bytes()) {
        return i;
      }
      return Error::Make(ErrorCode::kInvalidArgument,
                         "snapshot {} has {} MiB of memory, the machine {}: only a cold start can "
                         "change that (--cold)",
                         info.id.Short(), info.spaces[i].size_bytes / kMiB, size_bytes / kMiB);
    }
  }
  return Error::Make(ErrorCode::kInvalidArgument,
                     "snapshot {} holds disks only, of a machine that did not run: restore it with "
                     "--cold",
                     info.id.Short());
}

Status FillMemory(MemorySpace& memory, SnapshotReader& snapshot) {
  const uint32_t space = TRY(FindMemory(snapshot.info(), memory));
  std::vector<uint8_t> bytes(kPagesRead * memory.block_bytes());
  for (uint64_t page = 0; page < memory.block_count();) {
    const uint64_t zero = TRY(snapshot.ZeroRun(space, BlockIndex(page)));
    if (zero > 0) {
      page += zero;
      continue;
    }
    const uint64_t count = std::min(kPagesRead, memory.block_count() - page);
    const std::span<uint8_t> part(bytes.data(), count * memory.block_bytes());
    TRY(snapshot.Read(space, BlockIndex(page), part));
    TRY(memory.Write(BlockIndex(page), part));
    page += count;
  }
  return {};
}

void ForgetMarks(DirtyBitmap& marks) {
  std::vector<uint64_t> words(marks.word_count());
  marks.TakeInto(words);
}

}  // namespace

Status RestoreMachine(Machine& machine, SnapshotReader& snapshot, RestoredClock clock) {
  MemorySpace memory(machine.memory());
  TRY(FillMemory(memory, snapshot));
  ForgetMarks(machine.memory().dirty());
  const std::vector<uint8_t> bytes = TRY(snapshot.State());
  const StateNode state = TRY(DecodeState(bytes));
  const uint64_t now_ns = RealtimeNs();
  const uint64_t instant_ns = snapshot.info().draft.instant_ns;
  const uint64_t away_ns = now_ns > instant_ns ? now_ns - instant_ns : 0;
  TRY(machine.Load(state, clock == RestoredClock::kAdvance ? away_ns : 0));
  return machine.RenewGenerationId();
}

}  // namespace pacsvisor
