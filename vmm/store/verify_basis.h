// What every way of verifying begins with: the store's frame, the roots, and what they name.
// Threads: one at a time.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "vmm/store/snapshot_root.h"
#include "vmm/store/store.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

class VerifyBasis {
 protected:
  using Users = std::set<SnapshotId>;  // of a part of the store

  VerifyBasis(StoreCore& core, std::vector<SnapshotId> ids,
              const std::function<void(const VerifyProgress&)>& progress)
      : core_(core), ids_(std::move(ids)), progress_(progress) {}

  Status CheckFrame();
  void CheckRoots();
  void CheckState(const StateRef& ref, const Users& users);

  void AddDamage(const std::string& file, std::string what, const Users& users);
  void Done(uint64_t bytes, uint64_t passed_over = 0);

  StoreCore& core_;
  std::vector<SnapshotId> ids_;
  const std::function<void(const VerifyProgress&)>& progress_;
  VerifyProgress done_;
  VerifyReport report_;
  // By name.
  std::map<Hash, std::pair<TableRef, Users>> tables_;
  std::map<Hash, std::pair<StateRef, Users>> states_;
};

}  // namespace pacsvisor
