#include <filesystem>
#include <fstream>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/cli/command.h"
#include "vmm/cli/process_setup.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/restored_disks.h"
#include "vmm/cli/run_loop.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/machine/config_text.h"
#include "vmm/sandbox/privileges.h"

namespace pacsvisor {
namespace {

constexpr char kRestoreFooter[] =
    R"(The machine runs in this process until it ends, as with 'pacsvisor run': its serial console is
on the terminal, Ctrl-] x presses the power button.

In place (no --name): the machine of the snapshot goes back to it. It must not be running. What its
disks hold now is kept first, as a snapshot of its own "before roll-back to ID" (--discard: is not).

Beside the old one (--name NEW): a machine of its own, with disks in --directory. It is isolated: its
cards keep their addresses, and reach nothing. --forward lets this host in; --network live connects it
as the old one was, and is refused while that one runs.

The guest starts at once; its memory is fetched from the store as it is touched, and the rest in the
background ('ps --json': memory_there_bytes). Until it is whole the store must stay: a page that
cannot be fetched ends the machine. --eager reads all of it first, as a host without userfaultfd does.

Exit status: as 'pacsvisor run'; 1 also when nothing could be restored: nothing was changed then.

Examples:
  pacsvisor restore 3fa9c2e1 --store /srv/store
  pacsvisor restore 3fa9c2e1 --store /srv/store --name rehearsal --forward 127.0.0.1:14242:4242
  pacsvisor restore 3fa9c2e1 --store /srv/store --name bigger --cold --memory 8G --cpus 4)";

struct CommandOptions {
  std::string id;
  std::string store = "store";
  std::string name;
  std::string directory;
  std::string network = "isolated";
  std::string clock = "continue";
  std::vector<std::string> forwards;
  std::string memory;
  uint32_t cpus = 0;
  bool cold = false;
  bool discard = false;
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
  options.store_path = std::filesystem::absolute(given.store).lexically_normal().string();
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

  Result<std::shared_ptr<const RestorePoint>> Prepare() {
    const bool in_place = options_.new_name.empty();
    ProgressBar progress;
    if (in_place) {
      TRY(KeepWhatIsThere(progress));
    } else {
      TRY(MakeDirectory(options_, plan_.config));
    }
    TRY(WriteRestoredDisks(
        *snapshot_, plan_.disks,
        in_place ? NewDiskFile::Existing::kReplace : NewDiskFile::Existing::kRefuse, progress));
    store_.reset();
    if (given_.cold) {
      return std::shared_ptr<const RestorePoint>();
    }
    return std::make_shared<const RestorePoint>(RestorePoint{
        .snapshot = std::move(snapshot_),
        .clock = given_.clock == "advance" ? RestoredClock::kAdvance : RestoredClock::kContinue,
        .continues = true,
        .fill = given_.eager ? MemoryFill::kEager : MemoryFill::kLazy});
  }

 private:
  Status KeepWhatIsThere(ProgressBar& progress) {
    const std::string base = TRY(RuntimeBase());
    const ImageOwner owner{.machine = plan_.config.name,
                           .record_directory = TRY(ImageRecordDirectory(base))};
    TRY(MergeLeftoverLayers(plan_.config, owner));
    bool all_there = true;
    for (const DiskConfig& disk : plan_.config.disks) {
      all_there = all_there && std::filesystem::exists(disk.path);
    }
    if (given_.discard || !all_there) {
      return {};
    }
    const SnapshotInfo kept =
        TRY(KeepDisks(*store_, snapshot_->info().id, plan_.config,
                      "before roll-back to " + snapshot_->info().id.Short(), progress));
    Log(LogLevel::kInfo, "what the disks held is kept as snapshot {}", kept.id.Short());
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
};

Result<ExitStatus> Restore(const CommandOptions& given) {
  const RestoreOptions options = TRY(ReadOptions(given));
  std::unique_ptr<Store> store = TRY(OpenStoreAt(options.store_path));
  const SnapshotId id = TRY(store->Resolve(given.id));
  std::shared_ptr<SnapshotReader> snapshot = TRY(store->OpenSnapshot(id));
  RestorePlan plan = TRY(PlanRestore(snapshot->info(), options));
  TRY(CheckLive(options, snapshot->info().draft.machine));
  Preparation preparation(std::move(store), std::move(snapshot), std::move(plan), options, given);
  return RunPreparedMachine(preparation.config(), [&preparation] { return preparation.Prepare(); });
}

}  // namespace

void AddRestoreCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<CommandOptions>();
  CLI::App* command = app.add_subcommand(
      "restore", "Run a machine as a snapshot holds it: in place of the old one, or beside it");
  command->add_option("ID", options->id, "The snapshot: its id, or the beginning of it")
      ->required();
  command->add_option("--store", options->store, "The store's directory; default: store");
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
  command->add_flag("--eager", options->eager,
                    "Read all of memory before the guest starts, not as it is touched");
  command->add_flag("--discard", options->discard, "In place: do not keep what the disks hold now");
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
