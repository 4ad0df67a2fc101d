// Which snapshots a retention policy keeps. Threads: any.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "vmm/store/snapshot_info.h"

namespace pacsvisor {

// How many are kept of each machine: the last ones; and the last one of each hour, day, week (from
// Monday on), month and year, of so many that have any. By UTC. A snapshot that one rule keeps
// stays.
struct KeepRules {
  uint32_t last = 0;
  uint32_t hourly = 0;
  uint32_t daily = 0;
  uint32_t weekly = 0;
  uint32_t monthly = 0;
  uint32_t yearly = 0;

  bool any() const { return (last | hourly | daily | weekly | monthly | yearly) != 0; }
};

// Of any order; without a rule, all. The newest of each machine is always among them. A child is
// taken for newer than its parent also when the clock went back between them.
std::set<SnapshotId> KeptByRules(const KeepRules& rules,
                                 const std::vector<SnapshotInfo>& snapshots);

}  // namespace pacsvisor
