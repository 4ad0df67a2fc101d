#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/cli/command.h"
#include "vmm/cli/machine_roll_back.h"
#include "vmm/cli/process_setup.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/restored_disks.h"
#include "vmm/cli/run_loop.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/machine/config_text.h"
#include "vmm/machine/restore_check.h"
#include "vmm/sandbox/privileges.h"
#include "vmm/store/rollback_hold.h"

namespace pacsvisor {
namespace {

constexpr char kRestoreFooter[] =
    R"(The machine runs in this process until it ends, as with 'pacsvisor run': its serial console is
on the terminal, Ctrl-] x presses the power button.

In place (no --name): the machine of the snapshot goes back to it. What it is now is kept first, as a
snapshot "before roll-back to ID" (--discard: is not). A machine that runs is replaced only when the
restored one is ready: it is built beside, needs as much memory again, and the running one stands still
from the moment it is kept until then. If anything fails the old one goes on, at the worst from the
snapshot that was kept, in this process. (With --discard a failure after its end leaves it stopped, with
its disks as they were.)

Beside the old one (--name NEW): a machine of its own, with disks in --directory. It is isolated: its
cards keep their addresses, and reach nothing. --forward lets this host in; --network live connects it
as the old one was, and is refused while that one runs.

The guest starts at once; its memory and disks are fetched from the store as they are touched, and the
rest in the background ('ps --json': memory_there_bytes, and there_bytes of each disk). Until they are
whole the store must stay where it is. A page that cannot be fetched ends the machine; a block of a disk
that cannot is an I/O error for the guest. A machine that ends before its disks are whole goes on with
them when it runs again; until then its snapshot is held ('pacsvisor hold --list') and not pruned.
--eager reads all of it first: memory also on a host without userfaultfd, disks also where the store
cannot be written.
A quiesced snapshot holds file systems that stand still: they are thawed before the restore is reported
as done. The guest agent, where there is one, also sets the guest's clock.

Exit status: as 'pacsvisor run'; 1 also when nothing could be restored. What this host cannot run is
refused before anything is changed; where a later step fails, the disks that were there are put back.

Examples:
  pacsvisor restore 3fa9c2e1 --store /srv/store
  pacsvisor restore 3fa9c2e1 --store /srv/store --name rehearsal --forward 127.0.0.1:14242:4242
  pacsvisor restore 3fa9c2e1 --store /srv/store --name bigger --cold --memory 8G --cpus 4)";

struct CommandOptions {
  std::string id;
  StorePlace store = {.path = "store", .key = {}};
  std::string name;
  std::string directory;
  std::string network = "isolated";
  std::string clock = "continue";
  std::vector<std::string> forwards;
  std::string memory;
  uint32_t cpus = 0;
  bool cold = false;
  bool discard = false;
  bool json = false;
  bool eager = false;
  std::string log_level = "info";
};

Result<RestoreOptions> ReadOptions(const CommandOptions& given) {
  RestoreOptions options{.new_name = given.name,
                         .directory = given.directory.empty() ? given.name : given.directory,
                         .live = given.network == "live",
                         .cold = given.cold};
  if (!options.directory.empty()) {
    options.directory = std::filesystem::absolute(options.directory).string();
  }
  options.store_path = std::filesystem::absolute(given.store.path).lexically_normal().string();
  if (!given.store.key.empty()) {
    options.store_key = std::filesystem::absolute(given.store.key).lexically_normal().string();
  }
  for (const std::string& text : given.forwards) {
    options.forwards.push_back(TRY(ParseForward(text)));
  }
  if (!given.memory.empty()) {
    options.memory_bytes = ParseSize(given.memory);
    if (!options.memory_bytes) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "--memory {} is no size: give a number with M or G, such as 8G",
                         Printable(given.memory));
    }
  }
  if (given.cpus != 0) {
    options.cpus = given.cpus;
  }
  if (given.name.empty() && (!given.forwards.empty() || !given.directory.empty())) {
    return Error::Make(
        ErrorCode::kInvalidArgument,
        "--forward and --directory are for a machine beside the old one: add --name");
  }
  return options;
}

RestoredClock ClockOf(const CommandOptions& given) {
  return given.clock == "advance" ? RestoredClock::kAdvance : RestoredClock::kContinue;
}

// No address, name or AE title twice in a hospital's network.
Status CheckLive(const RestoreOptions& options, const std::string& recorded_name) {
  if (options.new_name.empty() || !options.live) {
    return {};
  }
  const std::string base = TRY(RuntimeBase());
  const Result<RunningMachine> running = FindRunningMachine(base, recorded_name);
  if (running.ok()) {
    return Error::Make(
        ErrorCode::kBusy,
        "machine {} runs (process {}): a second one of its addresses would be on the "
        "same network. Stop it first, or restore isolated",
        recorded_name, running->pid);
  }
  return {};
}

Status MakeDirectory(const RestoreOptions& options, const MachineConfig& config) {
  std::error_code error;
  std::filesystem::create_directories(options.directory, error);
  if (error) {
    return Error::FromErrno(error.value(), "cannot make the new machine's directory {}",
                            options.directory);
  }
  const std::string path = options.directory + "/VM.toml";
  std::ofstream file(path, std::ios::trunc);
  file << config.source_text;
  file.close();
  if (!file) {
    return Error::FromErrno(errno, "cannot write {}", path);
  }
  return {};
}

// Everything that is to be there before the machine starts. Its name is claimed.
class Preparation {
 public:
  Preparation(std::unique_ptr<Store> store, std::shared_ptr<SnapshotReader> snapshot,
              RestorePlan plan, RestoreOptions options, const CommandOptions& given)
      : store_(std::move(store)),
        snapshot_(std::move(snapshot)),
        plan_(std::move(plan)),
        options_(std::move(options)),
        given_(given) {}

  const MachineConfig& config() const { return plan_.config; }
  const std::string& kept() const { return kept_; }  // the snapshot's id; empty: none

  // The restored machine runs, or is not going to.
  void Started() {
    made_.clear();
    begun_.clear();
    store_.reset();
    if (std::exchange(exchanged_, false)) {
      DropReplacedDisks(plan_.config);
    }
    files_.reset();
  }
  void Failed() {
    // This process may be confined by now: no path is looked up but to take it away.
    for (const BegunDisk& disk : std::exchange(begun_, {})) {
      GiveUpBegunDisk(*store_, disk);
    }
    for (const std::string& path : std::exchange(made_, {})) {
      unlink(path.c_str());
    }
    if (std::exchange(exchanged_, false)) {
      if (const Status back = PutDisksBack(plan_.config); !back.ok()) {
        Log(LogLevel::kError, "the old disks are not in their places again: {}",
            back.error().message());
      }
    }
    files_.reset();
  }

  Result<std::shared_ptr<const RestorePoint>> Prepare() {
    const bool in_place = options_.new_name.empty();
    if (!given_.cold) {
      TRY(CheckHostCanRun(plan_.config, *snapshot_));
    }
    ProgressBar progress;
    if (in_place) {
      TRY(KeepWhatIsThere(progress));
    } else {
      TRY(MakeDirectory(options_, plan_.config));
    }
    const DiskOrigin origin{.store = *store_,
                            .place = {options_.store_path, options_.store_key},
                            .snapshot = *snapshot_,
                            .machine = plan_.config.name,
                            .eager = given_.eager};
    if (in_place) {
      files_.emplace(TRY(WriteRestoredDisks(origin, plan_, progress)));
      TRY(ExchangeDisks(plan_.config, SwapDirection::kRestore));
      exchanged_ = true;
    } else {
      begun_ = TRY(WriteNewDisks(origin, plan_, progress));
      for (const RestorePlan::Disk& disk : plan_.disks) {
        made_.push_back(disk.path);
      }
    }
    if (given_.cold) {
      return std::shared_ptr<const RestorePoint>();
    }
    return std::make_shared<const RestorePoint>(
        RestorePoint{.snapshot = std::move(snapshot_),
                     .clock = ClockOf(given_),
                     .continues = true,
                     .fill = given_.eager ? MemoryFill::kEager : MemoryFill::kLazy});
  }

 private:
  Status KeepWhatIsThere(ProgressBar& progress) {
    const std::string base = TRY(RuntimeBase());
    const ImageOwner owner{.machine = plan_.config.name,
                           .record_directory = TRY(ImageRecordDirectory(base))};
    bool all_there = !plan_.config.disks.empty();  // without a disk nothing is there to keep
    for (const DiskConfig& disk : plan_.config.disks) {
      all_there = all_there && std::filesystem::exists(disk.path);
    }
    if (given_.discard || !all_there) {
      return {};
    }
    TRY(MakeDisksWhole(plan_.config, owner));
    const SnapshotInfo kept =
        TRY(KeepDisks(*store_, snapshot_->info().id, plan_.config,
                      "before roll-back to " + snapshot_->info().id.Short(), progress));
    kept_ = kept.id.Hex();
    const Hold hold = TRY(HoldBeforeRollback(*store_, kept.id));
    Log(LogLevel::kInfo, "what the disks held is kept as snapshot {}, for {} days at least",
        hold.snapshot.Short(), kRollbackHoldDays);
    if (!plan_.config.sandbox.user.empty()) {
      const User user = TRY(FindUser(plan_.config.sandbox.user));
      TRY(GiveDirectory(user, options_.store_path));
    }
    return {};
  }

  std::unique_ptr<Store> store_;
  std::shared_ptr<SnapshotReader> snapshot_;
  RestorePlan plan_;
  const RestoreOptions options_;
  const CommandOptions& given_;
  std::string kept_;
  std::optional<RestoredFiles> files_;  // in place only
  bool exchanged_ = false;              // the old disks are beside them
  std::vector<std::string> made_;       // of a new machine
  std::vector<BegunDisk> begun_;        // likewise
};

// One object on standard output, once the guest runs (and is thawed).
class StartReport {
 public:
  StartReport(const SnapshotInfo& snapshot, const std::string& machine)
      : snapshot_(snapshot.id.Hex()),
        consistency_(snapshot.draft.consistency),
        machine_(machine),
        begun_ns_(MonotonicNs()) {}

  void Print(const StartedMachine& started, const std::string& kept) const {
    pacsvisor::Print(stdout, "{}\n",
                     DumpJson({{"id", snapshot_},
                               {"consistency", consistency_},
                               {"name", machine_},
                               {"pid", started.pid},
                               {"control_socket", started.control_socket},
                               {"kept", kept},
                               {"started_ns", MonotonicNs() - begun_ns_}}));
    std::fflush(stdout);
  }

 private:
  const std::string snapshot_;
  const std::string consistency_;
  const std::string machine_;
  const uint64_t begun_ns_;
};

// Of what does not run. In place the machine is a process of its own, so that this one can put the
// old disks back if it does not come to run.
Result<ExitStatus> RunPreparation(Preparation& preparation, const CommandOptions& given,
                                  const StartReport& report) {
  bool started = false;
  RunOptions options{.console = !given.json, .on_start = {}, .in_child = given.name.empty()};
  options.on_start = [&](const StartedMachine& machine) {
    started = true;
    preparation.Started();
    if (given.json) {
      report.Print(machine, preparation.kept());
    }
  };
  Result<ExitStatus> status = RunPreparedMachine(
      preparation.config(), [&preparation] { return preparation.Prepare(); }, options);
  if (!started) {
    preparation.Failed();
  }
  return status;
}

Result<ExitStatus> Restore(const CommandOptions& given) {
  const RestoreOptions options = TRY(ReadOptions(given));
  std::unique_ptr<Store> store = TRY(OpenStoreAt({options.store_path, options.store_key}));
  const SnapshotId id = TRY(store->Resolve(given.id));
  std::shared_ptr<SnapshotReader> snapshot = TRY(store->OpenSnapshot(id));
  RestorePlan plan = TRY(PlanRestore(snapshot->info(), options));
  TRY(CheckLive(options, snapshot->info().draft.machine));
  const StartReport report(snapshot->info(), plan.config.name);
  if (options.new_name.empty()) {
    const std::string base = TRY(RuntimeBase());
    Result<RunningMachine> running = FindRunningMachine(base, plan.config.name);
    if (running.ok()) {
      store.reset();
      MachineRollBack steps(
          {.running = *std::move(running),
           .plan = std::move(plan),
           .snapshot = std::move(snapshot),
           .clock = ClockOf(given),
           .cold = given.cold,
           .eager = given.eager,
           .console = !given.json,
           .on_start = [&](const StartedMachine& started, const std::string& kept) {
             if (given.json) {
               report.Print(started, kept);
             }
           }});
      return RollBackRunning(steps, !given.discard);
    }
  }
  Preparation preparation(std::move(store), std::move(snapshot), std::move(plan), options, given);
  return RunPreparation(preparation, given, report);
}

}  // namespace

void AddRestoreCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<CommandOptions>();
  CLI::App* command = app.add_subcommand(
      "restore", "Run a machine as a snapshot holds it: in place of the old one, or beside it");
  command->add_option("ID", options->id, "The snapshot: its id, or the beginning of it")
      ->required();
  AddStoreOption(*command, options->store);
  command->get_option("--store")->description("The store's directory; default: store");
  command->add_option("--name", options->name, "Beside the old machine, under this name");
  command->add_option("--directory", options->directory,
                      "Of the new machine's disks and VM.toml; default: its name");
  command->add_option("--network", options->network, "isolated or live; default: isolated")
      ->check(CLI::IsMember({"isolated", "live"}));
  command->add_option("--forward", options->forwards,
                      "HOST_ADDRESS:HOST_PORT:GUEST_PORT into an isolated machine; several times");
  command
      ->add_option("--clock", options->clock,
                   "continue: the guest's time goes on from the instant; advance: it has moved "
                   "by the time away; default: continue")
      ->check(CLI::IsMember({"continue", "advance"}));
  command->add_flag("--cold", options->cold, "The disks only: it boots");
  command->add_option("--memory", options->memory, "With --cold: such as 8G");
  command->add_option("--cpus", options->cpus, "With --cold")
      ->check(CLI::Range(1u, MachineConfig::kMaxCpus));
  command->add_flag("--discard", options->discard, "In place: do not keep what the machine is now");
  command->add_flag("--json", options->json,
                    "Print a JSON object once the guest runs: id, name, pid, control_socket, kept, "
                    "started_ns; its console is not on standard output then");
  command->add_flag(
      "--eager", options->eager,
      "Read all of memory and disks before the guest starts, not as they are touched");
  command
      ->add_option("--log-level", options->log_level,
                   "trace, debug, info, warning, error or off; default: info")
      ->check([](const std::string& name) {
        const Result<LogLevel> level = ParseLogLevel(name);
        return level.ok() ? std::string() : level.error().message();
      });
  command->footer(kRestoreFooter);
  command->callback([options, status] {
    SetLogLevel(*ParseLogLevel(options->log_level));
    SetUpMachineProcess();
    const Result<ExitStatus> done = Restore(*options);
    *status = done.ok() ? *done : Fail(done.error());
  });
}

}  // namespace pacsvisor
