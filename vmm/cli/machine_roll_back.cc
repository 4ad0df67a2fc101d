#include "vmm/cli/machine_roll_back.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/restored_disks.h"
#include "vmm/cli/store_path.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/machine_restore.h"
#include "vmm/store/rollback_hold.h"

namespace pacsvisor {
namespace {

constexpr int kPauseTimeoutSeconds = 60;
constexpr std::chrono::milliseconds kLookAgain{50};

// The recorded configuration of a snapshot that was just taken.
Result<RestorePlan> PlanOfKept(const SnapshotInfo& kept, const StorePlace& store) {
  return PlanRestore(kept, {.store_path = store.path, .store_key = store.key});
}

}  // namespace

MachineRollBack::MachineRollBack(Order order)
    : name_(order.running.name),
      plan_(std::move(order.plan)),
      snapshot_(std::move(order.snapshot)),
      clock_(order.clock),
      cold_(order.cold),
      eager_(order.eager),
      console_(order.console),
      on_start_(std::move(order.on_start)),
      old_pid_(order.running.pid),
      client_(order.running.socket_path, kPauseTimeoutSeconds) {}

Status MachineRollBack::Prepare() {
  const MachineDescription old = TRY(client_.Describe());
  kept_store_ = {old.store, old.store_key};
  was_paused_ = old.state == MachineState::kPaused;
  if (old.state == MachineState::kStopping) {
    return Error::Make(ErrorCode::kBusy, "machine {} is stopping: wait for its end, then restore",
                       name_);
  }
  ProgressBar progress;
  const StorePlace place{plan_.config.store_path, plan_.config.store_key};
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(place));
  files_.emplace(TRY(WriteRestoredDisks(
      {.store = *store, .place = place, .snapshot = *snapshot_, .machine = name_, .eager = eager_},
      plan_, progress)));
  // Left from a roll-back that was killed: nobody shall take it for what this one replaces.
  DropReplacedDisks(plan_.config);
  return cold_ ? Status() : Rehearse();
}

// All but what the old machine still has: its sockets, networks and the names of its disks.
Status MachineRollBack::Rehearse() {
  MachineConfig config = plan_.config;
  for (DiskConfig& disk : config.disks) {
    disk.path = RestoredName(disk.path);
  }
  for (NetConfig& net : config.nets) {
    net.backend = net.backend == NetBackend::kUser ? NetBackend::kUser : NetBackend::kNone;
    net.isolated = net.backend == NetBackend::kUser;
    net.interface.clear();
    net.forwards.clear();
  }
  config.store_path.clear();
  config.store_key.clear();
  const std::string base = TRY(RuntimeBase());
  const std::string socket =
      (std::filesystem::path(base) / fmt::format("rehearsal-{}.sock", getpid())).string();
  const std::shared_ptr<const HostResources> host = TRY(HostResources::Open(
      config,
      {.image_record_directory = {}, .agent_socket = socket, .boot = HostResources::Boot::kNone}));
  const std::unique_ptr<Machine> machine = TRY(Machine::Build(
      config, {.console_output = [](std::span<const uint8_t>) {}, .host = host, .for_load = true}));
  // Every page is read, while the old machine still runs: none of them is missed later.
  return RestoreMachine(*machine, snapshot_, clock_, MemoryFill::kEager);
}

Status MachineRollBack::Pause() { return client_.Pause(); }

Status MachineRollBack::Resume() { return was_paused_ ? Status() : client_.Resume(); }

Status MachineRollBack::Keep() {
  const uint64_t number = TRY(
      client_.StartSnapshot({.message = "before roll-back to " + snapshot_->info().id.Short()}));
  ProgressBar progress;
  while (true) {
    const SnapshotProgress now = TRY(client_.SnapshotStatus(number));
    if (now.error) {
      return *now.error;
    }
    if (now.result) {
      kept_ = now.result->id;
      progress.Clear();
      Log(LogLevel::kInfo, "the running machine is kept as snapshot {}", kept_.substr(0, 12));
      return HoldKept();
    }
    progress.Show("keeping", now.bytes_done, now.bytes_total);
    std::this_thread::sleep_for(kLookAgain);
  }
}

Status MachineRollBack::HoldKept() {
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(kept_store_));
  const SnapshotId id = TRY(store->Resolve(kept_));
  const Hold hold = TRY(HoldBeforeRollback(*store, id));
  Log(LogLevel::kInfo, "snapshot {} is not pruned for {} days", hold.snapshot.Short(),
      kRollbackHoldDays);
  return {};
}

Status MachineRollBack::Stop() {
  TRY(client_.RequestStop({.grace_seconds = 0, .force = true}));
  // It merges the layers of its disks, which takes as long as it takes.
  const std::string base = TRY(RuntimeBase());
  while (true) {
    const Result<RunningMachine> still = FindRunningMachine(base, name_);
    if (!still.ok()) {
      return still.error().code() == ErrorCode::kNotFound ? Status() : Status(still.error());
    }
    if (still->pid != 0 && still->pid != old_pid_) {
      return Error::Make(ErrorCode::kBusy, "machine {} was started by somebody else (process {})",
                         name_, still->pid);
    }
    std::this_thread::sleep_for(kLookAgain);
  }
}

RollBackSteps::Life MachineRollBack::Run(const MachineConfig& config, const PrepareMachine& prepare,
                                         bool restored) {
  Life life;
  RunOptions options{.console = console_, .on_start = {}, .in_child = true};
  options.on_start = [&](const StartedMachine& started) {
    life.started = true;
    DropReplacedDisks(config);
    files_.reset();
    if (restored && on_start_) {
      on_start_(started, kept_);
    }
  };
  life.status = RunPreparedMachine(config, prepare, options);
  return life;
}

RollBackSteps::Life MachineRollBack::RunRestored() {
  const auto prepare = [this]() -> Result<std::shared_ptr<const RestorePoint>> {
    TRY(ExchangeDisks(plan_.config, SwapDirection::kRestore));
    if (cold_) {
      return std::shared_ptr<const RestorePoint>();
    }
    return std::make_shared<const RestorePoint>(
        RestorePoint{.snapshot = std::move(snapshot_), .clock = clock_, .continues = true});
  };
  return Run(plan_.config, prepare, true);
}

Status MachineRollBack::PutBack() { return PutDisksBack(plan_.config); }

RollBackSteps::Life MachineRollBack::RunOld() {
  const auto open = [this]() -> Result<std::shared_ptr<SnapshotReader>> {
    const std::unique_ptr<Store> store = TRY(OpenStoreAt(kept_store_));
    const SnapshotId id = TRY(store->Resolve(kept_));
    std::shared_ptr<SnapshotReader> reader = TRY(store->OpenSnapshot(id));
    return reader;
  };
  Result<std::shared_ptr<SnapshotReader>> kept = open();
  if (!kept.ok()) {
    return {.status = kept.error()};
  }
  const Result<RestorePlan> plan = PlanOfKept((*kept)->info(), kept_store_);
  if (!plan.ok()) {
    return {.status = plan.error()};
  }
  const auto prepare = [&kept] {
    return Result<std::shared_ptr<const RestorePoint>>(
        std::make_shared<const RestorePoint>(RestorePoint{.snapshot = *kept, .continues = true}));
  };
  return Run(plan->config, prepare, false);
}

}  // namespace pacsvisor
