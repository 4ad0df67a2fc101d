// Takes snapshots of one running machine into one store, each incremental to the one before.
//
// The first in the machine's life is given whole; what the newest snapshot of the same machine in
// the store has already costs no room. One that fails or is called off gives back what it took from
// the dirty sets, and the next one holds it.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/snapshot/capture_observer.h"
#include "vmm/snapshot/quiescer.h"
#include "vmm/snapshot/snapshot_subject.h"
#include "vmm/store/store.h"

namespace pacsvisor {

inline constexpr char kQuiesced[] = "quiesced";  // a consistency; the other is "crash"
inline constexpr char kNotQuiesced[] = "not_quiesced";
inline constexpr char kNotThawed[] = "not_thawed";

struct SnapshotOrder {
  std::string machine;
  std::string message;
  std::map<std::string, std::string> texts;
  // Null: the record says "crash". Otherwise "quiesced", or why not as the text kNotQuiesced; what
  // Thaw complains of as kNotThawed.
  Quiescer* quiescer = nullptr;
  uint64_t pause_budget_ns = 5'000'000;
  uint64_t staging_bytes = 0;  // 0: an eighth of memory
};

struct TakenSnapshot {
  SnapshotInfo info;
  uint64_t durable_ns = 0;  // from the instant until it survives a power cut
};

class SnapshotTaker {
 public:
  // Both are borrowed and outlive the taker.
  SnapshotTaker(SnapshotSubject& subject, Store& store) : subject_(subject), store_(store) {}

  Result<TakenSnapshot> Take(const SnapshotOrder& order, CaptureObserver& observer);

  // The machine was restored from this snapshot and has been tracked since: the next one needs only
  // what has changed. Before the first Take.
  void ContinueFrom(const SnapshotId& id) { continued_ = id; }

 private:
  class Attempt;

  std::vector<StoredSpace> Spaces() const;
  // The snapshot to start from, with nothing known of what changed since.
  Result<std::optional<SnapshotId>> NewestOf(const std::string& machine) const;

  SnapshotSubject& subject_;
  Store& store_;
  // The dirty sets hold what changed since this one.
  std::optional<SnapshotId> continued_;
};

}  // namespace pacsvisor
