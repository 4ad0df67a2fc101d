#include "vmm/dirty/dirty_tracker.h"

#include "vmm/base/check.h"

namespace pacsvisor {

Status DirtyTracker::Start() {
  CHECK(!started_, "tracking by {} is on already", source_name());
  TRY(source_->Start());
  started_ = true;
  return {};
}

void DirtyTracker::Stop() {
  if (started_) {
    source_->Stop();
    started_ = false;
  }
}

Status DirtyTracker::Harvest(std::span<uint64_t> words) {
  CHECK(started_, "a harvest of what is not watched");
  return Settle(source_->Harvest(words), words);
}

Status DirtyTracker::HarvestPaused(std::span<uint64_t> words) {
  CHECK(started_, "a harvest of what is not watched");
  return Settle(source_->HarvestPaused(words), words);
}

// The marks come last: they are taken only where the whole set is handed over.
Status DirtyTracker::Settle(Status harvested, std::span<uint64_t> words) {
  if (!harvested.ok()) {
    marks_.Return(words);
    return harvested;
  }
  marks_.TakeInto(words);
  return {};
}

}  // namespace pacsvisor
