#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/local_time.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"
#include "vmm/machine/config_text.h"

namespace pacsvisor {
namespace {

constexpr char kPruneFooter[] =
    R"(Removes the snapshots that no rule keeps, and gives back the room that no other snapshot needs.
Rules count each machine's snapshots for themselves: --keep-daily 7 keeps the last one of each of the
7 latest days that have any (by UTC; weeks begin on Monday). What one rule keeps stays, and so does
what is held (pacsvisor hold) or being read; these are named. Without a rule no snapshot goes: only
what none needs any more, such as what an earlier prune that was interrupted has left.

Machines may run and take snapshots meanwhile. Interrupted at any point it loses nothing; the next
one goes on.

Examples:
  pacsvisor prune --store /srv/store --keep-last 10 --keep-daily 7 --keep-yearly 10 --dry-run
  pacsvisor prune pacs --store /srv/store --keep-last 3
  pacsvisor prune --store /srv/store)";

struct PruneOptions {
  PruneRequest request;
  StorePlace store;
  bool json = false;
};

Result<PruneReport> Prune(const PruneOptions& options) {
  StorePlace place = options.store;
  if (place.path.empty()) {
    place = TRY(StoreOfMachine(options.request.machine));
  }
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(place));
  ProgressBar bar;
  return store->Prune(options.request, [&](const VerifyProgress& progress) {
    bar.Show("marking", progress.bytes_done, progress.bytes_total);
  });
}

std::string Snapshots(uint64_t count) {
  return fmt::format("{} snapshot{}", count, count == 1 ? "" : "s");
}

void PrintPruneReport(const PruneReport& report, bool dry_run) {
  for (const SnapshotInfo& info : report.removed) {
    Print(stdout, "{}  {}  {}  {}\n", info.id.Short(), LocalTime(info.draft.instant_ns),
          Printable(info.draft.machine), Printable(info.draft.message));
  }
  for (const PruneReport::Spared& spared : report.spared) {
    Print(stdout, "{} stays: {}\n", spared.id.Short(), Printable(spared.why));
  }
  for (const std::string& unfinished : report.unfinished) {
    Print(stdout, "{}\n", Printable(unfinished));
  }
  Print(stdout, "{} {}, {} kept; {} {}\n", Snapshots(report.removed.size()),
        dry_run ? "would be removed" : "removed", report.kept, FormatBytes(report.freed_bytes),
        dry_run ? "would be freed" : "freed");
}

nlohmann::json PruneToJson(const PruneReport& report, bool dry_run) {
  nlohmann::json removed = nlohmann::json::array();
  for (const SnapshotInfo& info : report.removed) {
    removed.push_back(info.id.Hex());
  }
  nlohmann::json spared = nlohmann::json::array();
  for (const PruneReport::Spared& one : report.spared) {
    spared.push_back({{"id", one.id.Hex()}, {"why", one.why}});
  }
  return {{"dry_run", dry_run},
          {"removed", std::move(removed)},
          {"spared", std::move(spared)},
          {"kept", report.kept},
          {"freed_bytes", report.freed_bytes},
          {"moved_bytes", report.moved_bytes},
          {"unfinished", report.unfinished}};
}

ExitStatus PruneAndTell(const PruneOptions& options) {
  if (options.request.machine.empty() && options.store.path.empty()) {
    Print(stderr,
          "pacsvisor: name a running machine, or a store with --store DIR\n"
          "Run with --help for more information.\n");
    return ExitStatus::kUsage;
  }
  const Result<PruneReport> report = Prune(options);
  if (!report.ok()) {
    return Fail(report.error());
  }
  const bool dry_run = options.request.dry_run;
  options.json ? Print(stdout, "{}\n", DumpJson(PruneToJson(*report, dry_run)))
               : PrintPruneReport(*report, dry_run);
  return ExitStatus::kDone;
}

}  // namespace

void AddPruneCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<PruneOptions>();
  CLI::App* command =
      app.add_subcommand("prune", "Remove snapshots that are too many, and give back their room");
  KeepRules& keep = options->request.keep;
  command->add_option("NAME", options->request.machine,
                      "Of this machine alone; it must run, or --store");
  AddStoreOption(*command, options->store);
  command->add_option("--keep-last", keep.last, "So many of the latest");
  command->add_option("--keep-hourly", keep.hourly, "The last of so many hours");
  command->add_option("--keep-daily", keep.daily, "The last of so many days");
  command->add_option("--keep-weekly", keep.weekly, "The last of so many weeks");
  command->add_option("--keep-monthly", keep.monthly, "The last of so many months");
  command->add_option("--keep-yearly", keep.yearly, "The last of so many years");
  command->add_flag("--dry-run", options->request.dry_run,
                    "Tell what would go, and change nothing");
  command->add_flag("--json", options->json, "Print a JSON object");
  command->footer(kPruneFooter);
  command->callback([options, status] { *status = PruneAndTell(*options); });
}

}  // namespace pacsvisor
