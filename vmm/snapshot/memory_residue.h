// What of guest memory is too much to be copied in the pause: protected ahead of it and in it,
// copied after it, each page before its next write. DESIGN.md, section 6.
//
//   Arm      the machine runs, and writes faster than its memory is copied ahead
//   Begin, Keep  in the pause
//   CopyOut  the machine runs again
//   Abandon  at any time: the snapshot has failed
// Sets are words in DirtyBitmap::TakeInto's form. Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/snapshot/residue_buffer.h"
#include "vmm/snapshot/write_protection.h"

namespace pacsvisor {

class MemoryResidue {
 public:
  struct Options {
    uint64_t pause_budget_ns = 5'000'000;
    uint64_t enough_pages = 128;  // so few are always copied in the pause
    uint64_t buffer_bytes = 0;    // of copies kept before they are drained to the store
  };
  using Visit = std::function<Status(BlockIndex page, std::span<const uint8_t> bytes)>;

  // `protection` is borrowed; null: there is none.
  MemoryResidue(WriteProtection* protection, uint64_t page_count, Options options);

  // What copying a page has cost so far.
  void LearnCopying(uint64_t pages, uint64_t took_ns);
  // More than can be copied in the part of the pause that is meant for it.
  bool IsTooMuch(uint64_t pages) const;
  uint64_t pages_in_budget() const;

  // True: pages may be given to it. Once false (this host cannot), always false.
  bool Prepare();
  Status Arm(std::span<const uint64_t> pages);

  // The instant. `left`: what the last harvest found, as far as it is not protected; with what was
  // let go since Arm.
  Status Begin(std::span<uint64_t> left);
  // Takes out of `left` what it protects now: long runs, where there is too much for copying.
  Status Keep(std::span<uint64_t> left);

  // Copies what is protected and lets it go; `visit` is given every page. `step` is asked between
  // pieces of the work whether to go on.
  Status CopyOut(const Visit& visit, const std::function<Status()>& step);
  void Abandon();

  // Pages that CopyOut gives, and nobody else: after Keep.
  bool Has(BlockIndex page) const;
  uint64_t page_count() const;  // how many
  // For the snapshot's record.
  std::string Way() const;

 private:
  bool begun() const { return state_ == State::kBegun; }
  Status CopyPinned();

  enum class State { kNone, kPrepared, kArmed, kBegun };

  WriteProtection* const protection_;
  const uint64_t space_pages_;
  const Options options_;
  State state_ = State::kNone;
  bool refused_ = false;
  std::string problem_;          // why there is none
  std::vector<uint64_t> pages_;  // protected: to be copied out
  ResidueBuffer buffer_;
  // Scratch of the pause, made ahead of it.
  std::vector<uint64_t> listed_;
  std::vector<uint64_t> pinned_;
  std::vector<uint64_t> chosen_;
  uint64_t learned_pages_ = 0;
  uint64_t learned_ns_ = 0;
};

}  // namespace pacsvisor
