#include "vmm/control/machine_adapter.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/duration.h"
#include "vmm/base/log.h"
#include "vmm/base/unique_fd.h"
#include "vmm/control/machine_agent.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/machine_subject.h"
#include "vmm/machine/source_release.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kNsPerUs = 1000;

// Taken while the program's own initializers run: directly before main().
const uint64_t kProcessStartNs = MonotonicNs();

SnapshotPhase PhaseOf(CapturePhase phase) {
  switch (phase) {
    case CapturePhase::kCopying:
      return SnapshotPhase::kCopying;
    case CapturePhase::kPausing:
      return SnapshotPhase::kPausing;
    case CapturePhase::kWriting:
      return SnapshotPhase::kWriting;
    case CapturePhase::kCommitting:
      return SnapshotPhase::kCommitting;
  }
  CHECK(false, "phase {}", static_cast<int>(phase));
}

class ObserverAdapter : public CaptureObserver {
 public:
  explicit ObserverAdapter(SnapshotObserver& observer) : observer_(observer) {}
  void OnProgress(CapturePhase phase, uint64_t bytes_done, uint64_t bytes_total) override {
    observer_.Progress(PhaseOf(phase), bytes_done, bytes_total);
  }
  bool cancelled() const override { return observer_.cancelled(); }

 private:
  SnapshotObserver& observer_;
};

SnapshotResult ResultOf(const TakenSnapshot& taken) {
  SnapshotResult result;
  result.id = taken.info.id.Hex();
  result.parent = taken.info.parent ? taken.info.parent->Hex() : "";
  result.figures = taken.info.draft.figures;
  result.figures["durable_ns"] = taken.durable_ns;
  result.figures["unique_bytes"] = taken.info.counts.fresh_bytes;
  result.figures["stored_bytes"] = taken.info.counts.stored_bytes;
  result.consistency = taken.info.draft.consistency;
  for (const char* key : {kNotQuiesced, kNotThawed}) {
    if (const auto text = taken.info.draft.texts.find(key); text != taken.info.draft.texts.end()) {
      result.warnings.push_back(text->second);
    }
  }
  result.budget_met = taken.info.draft.figures.at("budget_met") != 0;
  return result;
}

class MachineAdapter : public MachineRunner {
 public:
  MachineAdapter(std::unique_ptr<Machine> machine, std::shared_ptr<const HostResources> host)
      : machine_(std::move(machine)),
        host_(std::move(host)),
        store_(host_->store),
        agent_(*machine_) {}

  // Between Build and Start. `begun_ns`: before Build.
  Status Restore(const RestorePoint& from, uint64_t begun_ns) {
    restore_start_ns_ = begun_ns;
    TRY(RestoreMachine(*machine_, from.snapshot, from.clock, from.fill));
    restored_ = Restored{from.snapshot->info(), from.clock};
    if (store_ == nullptr || !from.continues) {
      return {};
    }
    TRY(MakeTaker());
    TRY(machine_->tracker().Start());
    taker_->ContinueFrom(from.snapshot->info().id);
    return {};
  }

  Status Start() override {
    TRY(machine_->Start());
    TRY(StartRelease());
    return restored_ ? agent_.WakeRestored(restored_->snapshot, restored_->clock) : Status();
  }
  MachineEnd Wait() override { return machine_->Wait(); }
  Status Pause() override { return machine_->Pause(); }
  Status Resume() override { return machine_->Resume(); }
  uint64_t first_entry_ns() const override { return machine_->first_entry_ns(); }
  uint64_t restore_start_ns() const override { return restore_start_ns_; }
  uint64_t memory_there_bytes() const override {
    return machine_->GetMemoryProgress().pages_there * kPageSizeBytes;
  }
  uint64_t disk_left_bytes(size_t disk) const override {
    return machine_->GetDiskProgress(disk).left_bytes;
  }
  FaultDescriptions guest_faults() const override {
    FaultDescriptions faults;
    for (const DeviceFaults& device : machine_->GuestFaults()) {
      for (const GuestFaultCount& one : device.faults) {
        faults[device.device][std::string(GuestFaultName(one.fault))] = one.count;
      }
    }
    return faults;
  }
  void PressPowerButton() override { machine_->PressPowerButton(); }
  void ForceStop() override { machine_->ForceStop(); }
  void ConsoleInput(std::span<const uint8_t> bytes) override { machine_->ConsoleInput(bytes); }

  Result<SnapshotResult> Snapshot(const SnapshotRequest& request,
                                  SnapshotObserver& observer) override {
    if (store_ == nullptr) {
      return MachineRunner::Snapshot(request, observer);
    }
    TRY(MakeTaker());
    const std::unique_ptr<Quiescer> quiescer =
        request.quiesce ? agent_.ForSnapshot(request.quiesce_timeout_ms, observer) : nullptr;
    const MachineConfig& config = machine_->config();
    CHECK(!request.scheduled || config.schedule, "a snapshot of no schedule");
    SnapshotOrder order{.machine = config.name,
                        .message = request.message,
                        .texts = {{"config", config.source_text},
                                  {"config_directory", config.source_directory},
                                  {"pacsvisor", PACSVISOR_VERSION}},
                        .quiescer = quiescer.get(),
                        .pause_budget_ns = request.pause_budget_us * kNsPerUs};
    if (request.scheduled) {
      order.texts[kScheduledText] = DurationText(config.schedule->every_us);
    }
    ObserverAdapter adapter(observer);
    const TakenSnapshot taken = TRY(taker_->Take(order, adapter));
    SnapshotResult result = ResultOf(taken);
    if (request.scheduled && config.schedule->keep.any()) {
      PruneScheduled(config, observer, result);
    }
    return result;
  }

 private:
  // Its failure is none of the snapshot's, which is durable; the next one tries again.
  void PruneScheduled(const MachineConfig& config, SnapshotObserver& observer,
                      SnapshotResult& result) {
    const Result<PruneReport> pruned =
        store_->Prune({.keep = config.schedule->keep,
                       .machine = config.name,
                       .with_text = kScheduledText,
                       .cancelled = [&observer] { return observer.cancelled(); }});
    if (!pruned.ok()) {
      result.warnings.push_back("older snapshots of the schedule stay for now: " +
                                pruned.error().message());
      return;
    }
    if (!pruned->removed.empty()) {
      Log(LogLevel::kInfo, "{} older snapshots of the schedule are removed",
          pruned->removed.size());
    }
  }
  Status StartRelease() {
    std::vector<SourceRelease::Disk> disks;
    for (size_t i = 0; i < host_->disks.size(); ++i) {
      disks.push_back(
          {.path = machine_->config().disks[i].path,
           .source = host_->disks[i].source,
           .needs_source = [machine = machine_.get(),
                            i] { return machine->GetDiskProgress(i).needs_source; },
           .fetch_again = [machine = machine_.get(), i] { machine->FetchDiskAgain(i); }});
    }
    release_ = TRY(SourceRelease::Start(std::move(disks)));
    return {};
  }
  Status MakeTaker() {
    if (taker_ == nullptr) {
      subject_ = TRY(MachineSubject::Create(*machine_));
      taker_ = std::make_unique<SnapshotTaker>(*subject_, *store_);
    }
    return {};
  }

  const std::unique_ptr<Machine> machine_;
  const std::shared_ptr<const HostResources> host_;
  const std::shared_ptr<Store> store_;  // null: no snapshots
  uint64_t restore_start_ns_ = 0;       // before the start
  struct Restored {
    SnapshotInfo snapshot;
    RestoredClock clock;
  };
  std::optional<Restored> restored_;  // before the start
  MachineAgent agent_;                // at the start, then the snapshot's thread
  // The snapshot's thread, or before the start.
  std::unique_ptr<MachineSubject> subject_;
  std::unique_ptr<SnapshotTaker> taker_;
  // Last: its thread asks the machine. Null: every disk is whole.
  std::unique_ptr<SourceRelease> release_;
};

// Of a file or a block device; 0 when it cannot be asked.
uint64_t SizeOf(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const off_t end = fd.valid() ? lseek(fd.get(), 0, SEEK_END) : 0;
  return static_cast<uint64_t>(std::max<off_t>(end, 0));
}

// For whoever asks from another directory. An empty path stays.
std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return path.empty() || error ? path : absolute.lexically_normal().string();
}

NetDescription Describe(const NetConfig& net) {
  NetDescription description{.backend = std::string(NetBackendName(net.backend)),
                             .mac = FormatMac(net.mac),
                             .interface = net.interface,
                             .isolated = net.isolated};
  for (const PortForward& forward : net.forwards) {
    description.forwards.push_back(FormatForward(forward));
  }
  return description;
}

}  // namespace

MachineFactory MachineFactoryOf(MachineConfig config, std::shared_ptr<const HostResources> host,
                                std::shared_ptr<const RestorePoint> from,
                                std::function<void(const std::string&)> on_memory_lost) {
  // Once: a guest that resets itself boots.
  auto next = std::make_shared<std::shared_ptr<const RestorePoint>>(std::move(from));
  return [config = std::move(config), host = std::move(host),
          on_memory_lost = std::move(on_memory_lost),
          next](const ConsoleOutput& output) -> Result<std::unique_ptr<MachineRunner>> {
    const std::shared_ptr<const RestorePoint> point = std::exchange(*next, nullptr);
    if (point == nullptr && !host->boot) {
      return Error::Make(ErrorCode::kNotFound,
                         "the guest resets itself, and its kernel {} is not on this host: put it "
                         "there, then restore again",
                         config.boot.kernel);
    }
    MachineOptions options{.console_output = output,
                           .host = host,
                           .for_load = point != nullptr,
                           .on_memory_lost = on_memory_lost};
    const uint64_t begun_ns = MonotonicNs();
    std::unique_ptr<Machine> machine = TRY(Machine::Build(config, std::move(options)));
    auto adapter = std::make_unique<MachineAdapter>(std::move(machine), host);
    if (point != nullptr) {
      TRY(adapter->Restore(*point, begun_ns));
    }
    return std::unique_ptr<MachineRunner>(std::move(adapter));
  };
}

std::optional<ScheduleOptions> ScheduleOf(const MachineConfig& config, Store* store) {
  if (!config.schedule || store == nullptr) {
    return std::nullopt;
  }
  ScheduleOptions options{.every_ns = config.schedule->every_us * kNsPerUs,
                          .quiesce = config.schedule->quiesce,
                          .newest_age_ns = std::nullopt};
  const Result<std::vector<SnapshotInfo>> snapshots = store->List();
  if (!snapshots.ok()) {
    Log(LogLevel::kWarning, "when the last scheduled snapshot was taken cannot be told: {}",
        snapshots.error().message());
    return options;
  }
  const uint64_t now_ns = RealtimeNs();
  for (const SnapshotInfo& info : *snapshots) {
    // One from the future is of a clock that was wrong, then or now.
    if (info.draft.machine == config.name && info.draft.texts.contains(kScheduledText) &&
        info.draft.instant_ns <= now_ns) {
      const uint64_t age_ns = now_ns - info.draft.instant_ns;
      options.newest_age_ns = std::min(options.newest_age_ns.value_or(age_ns), age_ns);
    }
  }
  return options;
}

MachineDescription DescribeConfig(const MachineConfig& config) {
  MachineDescription description{.name = config.name,
                                 .pid = getpid(),
                                 .cpus = config.cpus,
                                 .memory_bytes = config.memory_bytes,
                                 .process_start_ns = kProcessStartNs,
                                 .store = AbsolutePath(config.store_path),
                                 .store_key = AbsolutePath(config.store_key),
                                 .version = PACSVISOR_VERSION};
  for (const DiskConfig& disk : config.disks) {
    description.disks.push_back({.path = disk.path,
                                 .serial = disk.serial,
                                 .size_bytes = SizeOf(disk.path),
                                 .there_bytes = 0,
                                 .read_only = disk.read_only});
  }
  for (const NetConfig& net : config.nets) {
    description.nets.push_back(Describe(net));
  }
  return description;
}

}  // namespace pacsvisor
