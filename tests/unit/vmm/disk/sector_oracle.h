// What a disk owes its guest after a power cut, sector by sector.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "vmm/base/check.h"

namespace pacsvisor {

// What each sector may hold after a cut: the last durable change, or any later one.
class SectorOracle {
 public:
  void Submitted(uint64_t sector, uint64_t number, uint64_t value) {
    changes_[sector].push_back({.number = number, .value = value});
  }
  void Completed(uint64_t sector, uint64_t number, uint64_t completion) {
    Find(sector, number).completion = completion;
  }
  // Every change that completed up to `completion` is durable.
  void Flushed(uint64_t completion) {
    for (auto& [sector, changes] : changes_) {
      for (Change& change : changes) {
        change.durable |= change.completion != 0 && change.completion <= completion;
      }
    }
  }
  void Durable(uint64_t sector, uint64_t number) { Find(sector, number).durable = true; }

  // The sector holds this, durably: after a cut, say.
  void Restart(uint64_t sector, uint64_t value) {
    changes_[sector] = {{.value = value, .durable = true}};
  }

  bool Allows(uint64_t sector, uint64_t value) const {
    const auto found = changes_.find(sector);
    if (found == changes_.end()) {
      return value == 0;
    }
    // Changes of a sector take effect in the order of submission.
    for (auto change = found->second.rbegin(); change != found->second.rend(); ++change) {
      if (change->value == value) {
        return true;
      }
      if (change->durable) {
        return false;
      }
    }
    return value == 0;
  }

 private:
  struct Change {
    uint64_t number = 0;
    uint64_t value = 0;
    uint64_t completion = 0;  // 0: not yet
    bool durable = false;
  };
  Change& Find(uint64_t sector, uint64_t number) {
    for (Change& change : changes_.at(sector)) {
      if (change.number == number) {
        return change;
      }
    }
    CHECK(false, "sector {} has no change {}", sector, number);
  }

  std::map<uint64_t, std::vector<Change>> changes_;
};

}  // namespace pacsvisor
