// What a store knows of a snapshot without reading any of its blocks: the contents of its root
// (FORMAT.md).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/store/snapshot_id.h"

namespace pacsvisor {

// An array of blocks: guest memory, or a disk. The last block of a space whose size is no multiple
// of its blocks is filled up with zeroes.
struct StoredSpace {
  std::string name;  // "memory", "disk0"; unique in a snapshot
  uint32_t block_bytes = 4096;
  uint64_t size_bytes = 0;

  uint64_t block_count() const { return (size_bytes + block_bytes - 1) / block_bytes; }
  friend bool operator==(const StoredSpace&, const StoredSpace&) = default;
};

// What the taker says of a snapshot. Opaque to the store but for its limits.
struct SnapshotDraft {
  std::string machine;      // its name
  std::string message;      // the user's
  uint64_t instant_ns = 0;  // of the pause: CLOCK_REALTIME
  // "crash" (as after a power cut), or "quiesced" (file systems frozen by the guest agent).
  std::string consistency = "crash";
  std::map<std::string, std::string> texts;  // the configuration as "config", and the like
  std::map<std::string, uint64_t> figures;   // "pause_ns", "dirty_blocks", …; units last
  // The same instant, by CLOCK_MONOTONIC; 0: none. Not kept: the writer adds the figure
  // "durable_ns", from then until everything but the root itself, one small file, was durable.
  uint64_t begun_ns = 0;
};

// How many blocks a writer was given, and what became of them.
struct WriterCounts {
  uint64_t given = 0;         // blocks, a later version of one counted again
  uint64_t zero = 0;          // nothing but zeroes: takes no room
  uint64_t unchanged = 0;     // the same bytes as in the parent: takes no room
  uint64_t known = 0;         // bytes that the store has already
  uint64_t fresh = 0;         // compressed and written
  uint64_t fresh_bytes = 0;   // before compression
  uint64_t stored_bytes = 0;  // all that was written for this snapshot
};

struct SnapshotInfo {
  SnapshotId id;
  std::optional<SnapshotId> parent;
  SnapshotDraft draft;
  std::vector<StoredSpace> spaces;
  WriterCounts counts;
  uint64_t state_bytes = 0;
};

}  // namespace pacsvisor
