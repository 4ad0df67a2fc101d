// Holds: snapshots that no prune removes before a day (FORMAT.md, 10). Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/snapshot_id.h"
#include "vmm/store/store_files.h"

namespace pacsvisor {

inline constexpr size_t kMostReasonBytes = 255;
// Words that begin so are of holds of their store alone: no copy or export takes them along.
inline constexpr std::string_view kFetchHoldPrefix = "fetch";

struct Hold {
  SnapshotId snapshot;
  std::string word;       // tells the holds of a snapshot apart
  uint64_t until_ns = 0;  // since 1970; 0: for ever
  uint64_t made_ns = 0;   // when, by the clock of who made it
  std::string reason;
  bool damaged = false;  // its file is not as written: it holds for ever

  // A disk's blocks are still fetched from the snapshot.
  bool IsFetch() const { return word.starts_with(kFetchHoldPrefix); }
  // Whether a copy or an export has it.
  bool IsCarried() const { return !damaged && !IsFetch(); }

  // Whether it is over. `greatest_ns` is the latest time that the store knows of: a clock that is
  // behind it was set back, and ends nothing.
  bool IsOver(uint64_t now_ns, uint64_t greatest_ns) const {
    return !damaged && until_ns != 0 && until_ns <= now_ns && greatest_ns <= now_ns;
  }
};

// 1 … 32 of a-z0-9.
bool IsHoldWord(std::string_view word);

// "holds/ID-WORD".
std::string HoldPath(const SnapshotId& snapshot, std::string_view word);

std::vector<uint8_t> EncodeHold(const Hold& hold);
// Of any bytes; what the file's name says is not filled in.
Result<Hold> DecodeHold(std::span<const uint8_t> bytes);

// All of a store, by snapshot and word; damaged ones among them.
Result<std::vector<Hold>> ReadHolds(StoreFiles& files);

}  // namespace pacsvisor
