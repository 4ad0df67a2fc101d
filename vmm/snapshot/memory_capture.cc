#include "vmm/snapshot/memory_capture.h"

#include <algorithm>
#include <bit>

#include "vmm/base/align.h"
#include "vmm/base/clock.h"
#include "vmm/base/thread_priority.h"
#include "vmm/dirty/dirty_bitmap.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kWordBits = 64;
constexpr uint64_t kStreamedPages = 64;  // read in one go by a whole copy
constexpr uint64_t kMinStagedPages = 1024;

uint64_t CountBits(std::span<const uint64_t> words) {
  uint64_t count = 0;
  for (const uint64_t word : words) {
    count += static_cast<uint64_t>(std::popcount(word));
  }
  return count;
}

}  // namespace

MemoryCapture::MemoryCapture(const Space& memory, DirtyTracker& tracker, uint32_t number,
                             SnapshotWriter& writer, Options options)
    : memory_(memory),
      tracker_(tracker),
      number_(number),
      writer_(writer),
      options_(options),
      staging_(memory.block_count()),
      residue_(options.protection, memory.block_count(),
               {.pause_budget_ns = options.pause_budget_ns,
                .enough_pages = options.enough_pages,
                .buffer_bytes = options.staging_bytes}),
      taken_(DivideRoundUp(memory.block_count(), kWordBits)),
      round_(taken_.size()) {}

uint64_t MemoryCapture::taken_pages() const {
  return options_.extent == Extent::kWhole ? memory_.block_count() : CountBits(taken_);
}

Status MemoryCapture::CopyAhead(CaptureObserver& observer) {
  if (options_.extent == Extent::kWhole) {
    TRY(CopyWhole(observer));
  }
  return CopyAgain(observer);
}

Status MemoryCapture::CopyAgain(CaptureObserver& observer) {
  // The first round holds all since the last snapshot and says nothing of what follows.
  uint64_t before = ~uint64_t{0};
  while (true) {
    const uint64_t pages = TRY(CopyRound(observer));
    const bool shrinks = pages < before - before / 4;
    if (pages <= options_.enough_pages || !shrinks || rounds_ >= options_.max_rounds) {
      const bool too_much = residue_.IsTooMuch(pages) && residue_.Prepare();
      if (too_much) {
        TRY(ArmAhead(observer));
      }
      // Room for twice of what the pause is likely to copy, made while nobody waits for it.
      const uint64_t expected =
          2 * (too_much ? residue_.pages_in_budget() : pages) + kMinStagedPages;
      return staging_.Reserve(staging_.size() + std::min(expected, memory_.block_count()));
    }
    before = pages;
  }
}

// Each round protects what was written since the one before, which slows its writers down: what is
// left to the pause is what they wrote since the last.
Status MemoryCapture::ArmAhead(CaptureObserver& observer) {
  uint64_t before = ~uint64_t{0};
  for (uint32_t round = 0; round < options_.max_rounds; ++round) {
    const uint64_t pages = TRY(ArmRound(observer));
    if (!residue_.IsTooMuch(pages) || pages >= before - before / 4) {
      break;
    }
    before = pages;
  }
  return {};
}

Result<uint64_t> MemoryCapture::ArmRound(CaptureObserver& observer) {
  const uint64_t pages = TRY(HarvestRound(observer));
  TRY(residue_.Arm(round_));
  return pages;
}

Status MemoryCapture::CopyWhole(CaptureObserver& observer) {
  // Tracking begins before the first page is read: what is written behind the reader's back comes
  // in the rounds. One left over from a snapshot that failed begins anew.
  tracker_.Stop();
  TRY(tracker_.Start());
  const uint64_t page_bytes = memory_.block_bytes();
  std::vector<uint8_t> bytes(kStreamedPages * page_bytes);
  const uint64_t pages = memory_.block_count();
  for (uint64_t first = 0; first < pages; first += kStreamedPages) {
    TRY(observer.CheckCancelled());
    observer.OnProgress(CapturePhase::kCopying, first * page_bytes, pages * page_bytes);
    const uint64_t count = std::min(kStreamedPages, pages - first);
    const std::span<uint8_t> part(bytes.data(), count * page_bytes);
    TRY(memory_.Read(BlockIndex(first), part));
    tracker_.Copied(BlockIndex(first), part);
    for (uint64_t i = 0; i < count; ++i) {
      TRY(writer_.Add(number_, BlockIndex(first + i), part.subspan(i * page_bytes, page_bytes)));
    }
  }
  // What the writer has begun would be in the pause's way: it has threads of its own.
  return writer_.Flush();
}

Result<uint64_t> MemoryCapture::HarvestRound(CaptureObserver& observer) {
  TRY(observer.CheckCancelled());
  ++rounds_;
  std::fill(round_.begin(), round_.end(), 0);
  const Status harvested = tracker_.Harvest(round_);
  for (size_t i = 0; i < round_.size(); ++i) {
    taken_[i] |= round_[i];
  }
  TRY(harvested);
  const uint64_t pages = CountBits(round_);
  observer.OnProgress(CapturePhase::kCopying, pages * memory_.block_bytes(), 0);
  return pages;
}

Result<uint64_t> MemoryCapture::CopyRound(CaptureObserver& observer) {
  const uint64_t pages = TRY(HarvestRound(observer));
  TRY(CopyPages(round_, Guest::kRuns,
                std::max(options_.staging_bytes / memory_.block_bytes(), kMinStagedPages)));
  return pages;
}

Status MemoryCapture::CopyPages(std::span<const uint64_t> words, Guest guest,
                                uint64_t most_staged) {
  const uint64_t page_bytes = memory_.block_bytes();
  const uint64_t begun_ns = MonotonicNs();
  uint64_t copied = 0;
  uint64_t drained_ns = 0;
  for (const pacsvisor::Extent& extent : ExtentsOf(words, memory_.block_count())) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      const BlockIndex page(extent.first.raw() + i);
      if (staging_.size() >= most_staged) {
        const uint64_t full_ns = MonotonicNs();
        TRY(Drain());
        drained_ns += MonotonicNs() - full_ns;
      }
      const std::span<uint8_t> place = TRY(staging_.PlaceFor(page));
      TRY(memory_.Read(page, place.first(page_bytes)));
      if (guest == Guest::kRuns) {
        LetOthersRun();
      }
    }
    copied += extent.count;
  }
  residue_.LearnCopying(copied, MonotonicNs() - begun_ns - drained_ns);
  return {};
}

Status MemoryCapture::Drain() {
  TRY(staging_.ForEach([this](BlockIndex page, std::span<const uint8_t> bytes) {
    return writer_.Add(number_, page, bytes);
  }));
  staging_.Clear();
  return writer_.Flush();  // as above
}

Status MemoryCapture::Harvest() {
  std::fill(round_.begin(), round_.end(), 0);
  const Status harvested = tracker_.HarvestPaused(round_);
  for (size_t i = 0; i < round_.size(); ++i) {
    taken_[i] |= round_[i];
  }
  TRY(harvested);
  return residue_.Begin(round_);
}

Status MemoryCapture::CopyRest() {
  TRY(residue_.Keep(round_));
  residue_pages_ = CountBits(round_);
  return CopyPages(round_, Guest::kStands, memory_.block_count() + 1);
}

Status MemoryCapture::Write(CaptureObserver& observer) {
  const uint64_t page_bytes = memory_.block_bytes();
  uint64_t done = 0;
  const uint64_t total = (staging_.size() + residue_.page_count()) * page_bytes;
  const auto write = [&](BlockIndex page, std::span<const uint8_t> bytes) -> Status {
    TRY(observer.CheckCancelled());
    observer.OnProgress(CapturePhase::kWriting, done, total);
    done += page_bytes;
    return writer_.Add(number_, page, bytes);
  };
  TRY(residue_.CopyOut(write, [&] { return observer.CheckCancelled(); }));
  TRY(staging_.ForEach([&](BlockIndex page, std::span<const uint8_t> bytes) {
    // What was copied ahead of a protection is not the instant's.
    return residue_.Has(page) ? Status() : write(page, bytes);
  }));
  staging_.Clear();
  return {};
}

void MemoryCapture::GiveBack() {
  residue_.Abandon();
  tracker_.Return(taken_);
}

}  // namespace pacsvisor
