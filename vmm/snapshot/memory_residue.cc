#include "vmm/snapshot/memory_residue.h"

#include <algorithm>
#include <bit>

#include "vmm/base/align.h"
#include "vmm/dirty/bit_words.h"
#include "vmm/dirty/dirty_bitmap.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kResidueWordBits = 64;
constexpr uint64_t kLeastCopyNs = 200;  // a page, where nothing was learned yet
// Of the budget, the rest is for stopping, saving and going on.
constexpr uint64_t kCopyingShare = 2;
// Protecting a run costs about two copied pages, and little more for each page of it.
constexpr uint64_t kLeastProtectedRun = 4;

}  // namespace

MemoryResidue::MemoryResidue(WriteProtection* protection, uint64_t page_count, Options options)
    : protection_(protection),
      space_pages_(page_count),
      options_(options),
      problem_(protection == nullptr ? "this machine has no write protection" : ""),
      pages_(DivideRoundUp(page_count, kResidueWordBits)) {}

void MemoryResidue::LearnCopying(uint64_t pages, uint64_t took_ns) {
  learned_pages_ += pages;
  learned_ns_ += took_ns;
}

uint64_t MemoryResidue::pages_in_budget() const {
  const uint64_t page_ns =
      std::max(kLeastCopyNs, learned_pages_ == 0 ? 0 : learned_ns_ / learned_pages_);
  return std::max(options_.enough_pages, options_.pause_budget_ns / kCopyingShare / page_ns);
}

bool MemoryResidue::IsTooMuch(uint64_t pages) const { return pages > pages_in_budget(); }

bool MemoryResidue::Prepare() {
  if (protection_ == nullptr || refused_) {
    return false;
  }
  if (state_ == State::kNone) {
    const Status prepared = protection_->Prepare();
    if (!prepared.ok()) {
      refused_ = true;
      problem_ = prepared.error().message();
      return false;
    }
    listed_.resize(pages_.size());
    pinned_.resize(pages_.size());
    chosen_.resize(pages_.size());
    state_ = State::kPrepared;
  }
  return true;
}

Status MemoryResidue::Arm(std::span<const uint64_t> pages) {
  CHECK(state_ == State::kPrepared || state_ == State::kArmed);
  state_ = State::kArmed;
  for (size_t i = 0; i < pages_.size(); ++i) {
    pages_[i] |= pages[i];
  }
  return protection_->Arm(ExtentsOf(pages, space_pages_));
}

Status MemoryResidue::Begin(std::span<uint64_t> left) {
  if (state_ == State::kNone) {
    return {};
  }
  const bool armed = state_ == State::kArmed;
  state_ = State::kBegun;
  std::fill(listed_.begin(), listed_.end(), 0);
  TRY(protection_->Begin(buffer_, listed_));
  if (!armed) {
    return {};
  }
  for (size_t i = 0; i < pages_.size(); ++i) {
    pages_[i] &= ~listed_[i];
    // What was written after the last harvest and before its protection is the instant's as well.
    left[i] = (left[i] & ~pages_[i]) | listed_[i];
  }
  return {};
}

Status MemoryResidue::CopyPinned() {
  std::fill(pinned_.begin(), pinned_.end(), 0);
  protection_->AddPinned(pinned_);
  for (size_t i = 0; i < chosen_.size(); ++i) {
    chosen_[i] = pinned_[i] & pages_[i];
  }
  return protection_->CopyNow(ExtentsOf(chosen_, space_pages_));
}

Status MemoryResidue::Keep(std::span<uint64_t> left) {
  if (!begun()) {
    return {};
  }
  TRY(CopyPinned());
  uint64_t count = 0;
  for (size_t i = 0; i < chosen_.size(); ++i) {
    count += static_cast<uint64_t>(std::popcount(left[i]));
    chosen_[i] = left[i] & ~pinned_[i];
  }
  if (!IsTooMuch(count)) {
    return {};
  }
  std::vector<Extent> runs = ExtentsOf(chosen_, space_pages_);
  std::erase_if(runs, [](const Extent& run) { return run.count < kLeastProtectedRun; });
  TRY(protection_->Protect(runs));
  for (const Extent& run : runs) {
    SetBits(pages_, run.first.raw(), run.count);
  }
  for (size_t i = 0; i < pages_.size(); ++i) {
    left[i] &= ~pages_[i];
  }
  return {};
}

Status MemoryResidue::CopyOut(const Visit& visit, const std::function<Status()>& step) {
  if (!begun()) {
    return {};
  }
  // What is protected slows the guest down: first all is copied, as far as there is room.
  while (TRY(protection_->CopySome())) {
    if (buffer_.size_bytes() >= options_.buffer_bytes) {
      TRY(step());
      TRY(buffer_.Drain(visit));
    }
  }
  TRY(protection_->Finish());
  state_ = State::kPrepared;
  TRY(step());
  return buffer_.Drain(visit);
}

void MemoryResidue::Abandon() {
  if (state_ == State::kArmed || state_ == State::kBegun) {
    protection_->Abandon();
    state_ = State::kPrepared;
  }
}

bool MemoryResidue::Has(BlockIndex page) const {
  return (pages_[page.raw() / kResidueWordBits] >> (page.raw() % kResidueWordBits) & 1) != 0;
}

uint64_t MemoryResidue::page_count() const {
  uint64_t count = 0;
  for (const uint64_t word : pages_) {
    count += static_cast<uint64_t>(std::popcount(word));
  }
  return count;
}

std::string MemoryResidue::Way() const {
  return page_count() > 0 ? "protected" : problem_.empty() ? "copied" : "copied: " + problem_;
}

}  // namespace pacsvisor
