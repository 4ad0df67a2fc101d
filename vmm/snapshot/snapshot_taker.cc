#include "vmm/snapshot/snapshot_taker.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/snapshot/disk_capture.h"
#include "vmm/snapshot/memory_capture.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kMemoryNumber = 0;  // disks follow
constexpr uint64_t kStagingShare = 8;  // of memory

}  // namespace

// One snapshot from its beginning to its commit, or to the giving back of what it took.
class SnapshotTaker::Attempt {
 public:
  Attempt(SnapshotSubject& subject, SnapshotWriter& writer, const SnapshotOrder& order, bool whole)
      : subject_(subject),
        writer_(writer),
        order_(order),
        memory_(subject.memory(), subject.tracker(), kMemoryNumber, writer,
                {.extent = whole ? MemoryCapture::Extent::kWhole : MemoryCapture::Extent::kChanges,
                 .staging_bytes = StagingBytes(subject, order),
                 .pause_budget_ns = order.pause_budget_ns,
                 .protection = subject.write_protection()}) {
    uint32_t number = kMemoryNumber;
    for (FrozenSpace* disk : subject.disks()) {
      disks_.emplace_back(*disk, ++number,
                          whole ? DiskCapture::Extent::kWhole : DiskCapture::Extent::kChanges);
    }
  }

  Result<TakenSnapshot> Run(CaptureObserver& observer) {
    Result<TakenSnapshot> taken = RunToCommit(observer);
    if (!taken.ok()) {
      memory_.GiveBack();
      if (frozen_) {
        for (DiskCapture& disk : disks_) {
          disk.GiveBack();
        }
      }
    }
    return taken;
  }

 private:
  static uint64_t StagingBytes(SnapshotSubject& subject, const SnapshotOrder& order) {
    return order.staging_bytes != 0
               ? order.staging_bytes
               : subject.memory().block_count() * subject.memory().block_bytes() / kStagingShare;
  }

  Result<TakenSnapshot> RunToCommit(CaptureObserver& observer) {
    TRY(memory_.CopyAhead(observer));
    for (DiskCapture& disk : disks_) {
      TRY(disk.Prepare());
    }
    TRY(order_.quiescer == nullptr ? Pause(observer) : PauseQuiesced(observer));
    const std::vector<uint8_t> state = EncodeState(state_);
    TRY(memory_.Write(observer));
    for (DiskCapture& disk : disks_) {
      TRY(disk.Write(writer_, observer));
    }
    TRY(writer_.Flush());
    observer.OnProgress(CapturePhase::kCommitting, 0, 0);
    TRY(observer.CheckCancelled());
    TakenSnapshot taken;
    taken.info = TRY(writer_.Commit(Draft(), state));
    taken.durable_ns = MonotonicNs() - pause_.begun_ns;
    return taken;
  }

  Status Pause(CaptureObserver& observer) {
    observer.OnProgress(CapturePhase::kPausing, 0, 0);
    instant_ns_ = RealtimeNs();
    return subject_.AtInstant([this] { return Freeze(); }, pause_);
  }

  // The guest's data stands still as short as can be: from here to directly after the pause.
  Status PauseQuiesced(CaptureObserver& observer) {
    const uint64_t begun_ns = MonotonicNs();
    const Status frozen = order_.quiescer->Freeze();
    figures_["freeze_ns"] = MonotonicNs() - begun_ns;
    if (!frozen.ok()) {
      texts_[kNotQuiesced] = frozen.error().message();
    }
    // What the guest wrote meanwhile is not left to the pause.
    Status paused = memory_.CopyAgain(observer);
    if (paused.ok()) {
      paused = Pause(observer);
    }
    const Status thawed = order_.quiescer->Thaw();
    figures_["frozen_ns"] = MonotonicNs() - begun_ns;
    if (!thawed.ok()) {
      texts_[kNotThawed] = thawed.error().message();
    }
    return paused;
  }

  // The state first: reading a vCPU may write guest memory, which the harvest then sees.
  Status Freeze() {
    const uint64_t begun_ns = MonotonicNs();
    TRY(subject_.SaveState(state_));
    const uint64_t saved_ns = MonotonicNs();
    TRY(memory_.Harvest());
    const uint64_t harvested_ns = MonotonicNs();
    TRY(memory_.CopyRest());
    const uint64_t copied_ns = MonotonicNs();
    frozen_ = true;
    for (DiskCapture& disk : disks_) {
      disk.Freeze();
    }
    figures_["pause_state_ns"] = saved_ns - begun_ns;
    figures_["pause_harvest_ns"] = harvested_ns - saved_ns;
    figures_["pause_copy_ns"] = copied_ns - harvested_ns;
    figures_["pause_flip_ns"] = MonotonicNs() - copied_ns;
    return {};
  }

  SnapshotDraft Draft() {
    const uint64_t pause_ns = pause_.resumed_ns - pause_.begun_ns;
    figures_["pause_ns"] = pause_ns;
    figures_["pause_kick_ns"] = pause_.stopped_ns - pause_.begun_ns;
    figures_["pause_resume_ns"] = pause_.resumed_ns - pause_.resuming_ns;
    figures_["budget_ns"] = order_.pause_budget_ns;
    figures_["budget_met"] = pause_ns <= order_.pause_budget_ns ? 1 : 0;
    figures_["rounds"] = memory_.rounds();
    figures_["residue_pages"] = memory_.residue_pages();
    figures_["protected_pages"] = memory_.residue().page_count();
    const uint64_t memory_bytes = memory_.taken_pages() * subject_.memory().block_bytes();
    uint64_t disk_bytes = 0;
    const std::vector<FrozenSpace*> spaces = subject_.disks();
    for (size_t i = 0; i < disks_.size(); ++i) {
      disk_bytes += disks_[i].blocks() * spaces[i]->block_bytes();
    }
    figures_["memory_dirty_bytes"] = memory_bytes;
    figures_["disk_dirty_bytes"] = disk_bytes;
    figures_["dirty_bytes"] = memory_bytes + disk_bytes;
    figures_["unique_bytes"] = writer_.counts().fresh_bytes;
    // Until all is with the writer.
    figures_["captured_ns"] = MonotonicNs() - pause_.begun_ns;
    SnapshotDraft draft;
    draft.machine = order_.machine;
    draft.message = order_.message;
    draft.instant_ns = instant_ns_;
    if (order_.quiescer != nullptr && !texts_.contains(kNotQuiesced)) {
      draft.consistency = kQuiesced;
    }
    draft.texts = order_.texts;
    draft.texts.insert(texts_.begin(), texts_.end());
    draft.texts["residue"] = memory_.residue().Way();
    draft.texts["tracking"] = std::string(subject_.tracker().source_name());
    draft.figures = figures_;
    draft.begun_ns = pause_.begun_ns;
    return draft;
  }

  SnapshotSubject& subject_;
  SnapshotWriter& writer_;
  const SnapshotOrder& order_;
  MemoryCapture memory_;
  std::deque<DiskCapture> disks_;
  bool frozen_ = false;
  uint64_t instant_ns_ = 0;
  PauseTimes pause_;
  StateNode state_;
  std::map<std::string, uint64_t> figures_;
  std::map<std::string, std::string> texts_;
};

std::vector<StoredSpace> SnapshotTaker::Spaces() const {
  const Space& memory = subject_.memory();
  std::vector<StoredSpace> spaces = {
      {memory.name(), memory.block_bytes(), memory.block_count() * memory.block_bytes()}};
  for (FrozenSpace* disk : subject_.disks()) {
    spaces.push_back({disk->name(), disk->block_bytes(), disk->size_bytes()});
  }
  return spaces;
}

Result<std::optional<SnapshotId>> SnapshotTaker::NewestOf(const std::string& machine) const {
  const std::vector<SnapshotInfo> all = TRY(store_.List());
  const auto newest = std::find_if(all.rbegin(), all.rend(), [&machine](const SnapshotInfo& info) {
    return info.draft.machine == machine;
  });
  return newest == all.rend() ? std::nullopt : std::optional(newest->id);
}

Result<TakenSnapshot> SnapshotTaker::Take(const SnapshotOrder& order, CaptureObserver& observer) {
  const bool whole = !continued_.has_value();
  std::optional<SnapshotId> parent = continued_;
  if (whole) {
    parent = TRY(NewestOf(order.machine));
  }
  Result<std::unique_ptr<SnapshotWriter>> writer = store_.Begin(parent, Spaces());
  if (!writer.ok() && !whole && writer.error().code() == ErrorCode::kNotFound) {
    // The parent was taken away: the next one stands on what there is.
    continued_.reset();
    return Take(order, observer);
  }
  if (!writer.ok()) {
    return std::move(writer).error();
  }
  Attempt attempt(subject_, **writer, order, whole);
  TakenSnapshot taken = TRY(attempt.Run(observer));
  continued_ = taken.info.id;
  return taken;
}

}  // namespace pacsvisor
