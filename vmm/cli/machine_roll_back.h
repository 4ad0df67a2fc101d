// A roll-back of a machine that runs in another process. Threads: one.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "vmm/cli/disk_swap.h"
#include "vmm/cli/roll_back.h"
#include "vmm/cli/run_loop.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/control_client.h"
#include "vmm/control/restore_plan.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/store/store.h"

namespace pacsvisor {

class MachineRollBack : public RollBackSteps {
 public:
  struct Order {
    RunningMachine running;
    RestorePlan plan;
    std::shared_ptr<SnapshotReader> snapshot;
    RestoredClock clock = RestoredClock::kContinue;
    bool cold = false;
    bool eager = false;   // as DiskOrigin says
    bool console = true;  // as RunOptions says
    // Of the restored machine; with the snapshot that keeps the old one, or an empty text.
    std::function<void(const StartedMachine&, const std::string& kept)> on_start;
  };
  explicit MachineRollBack(Order order);

  Status Prepare() override;
  Status Pause() override;
  Status Keep() override;
  Status Resume() override;
  Status Stop() override;
  Life RunRestored() override;
  Status PutBack() override;
  Life RunOld() override;

 private:
  Status Rehearse();
  Status HoldKept();  // prune leaves it alone for a while
  Life Run(const MachineConfig& config, const PrepareMachine& prepare, bool restored);

  const std::string name_;
  const RestorePlan plan_;
  std::shared_ptr<SnapshotReader> snapshot_;
  const RestoredClock clock_;
  const bool cold_;
  const bool eager_;
  const bool console_;
  const std::function<void(const StartedMachine&, const std::string& kept)> on_start_;
  const int64_t old_pid_;
  ControlClient client_;
  StorePlace kept_store_;  // of the old machine
  bool was_paused_ = false;
  std::optional<RestoredFiles> files_;
  std::string kept_;  // the snapshot of the old machine; empty: none
};

}  // namespace pacsvisor
