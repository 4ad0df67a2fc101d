#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "vmm/cli/command.h"
#include "vmm/cli/disk_swap.h"
#include "vmm/cli/local_time.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"
#include "vmm/disk/layer_directory.h"
#include "vmm/machine/config_text.h"
#include "vmm/machine/snapshot_blocks.h"

namespace pacsvisor {
namespace {

constexpr char kHoldFooter[] =
    R"(A held snapshot is not pruned before the hold is over, whatever the rules say, nor while this host's
clock is behind a time that the store knows of. Holds add up; --release takes back all of a snapshot,
or the one that --word names. An ID may be cut to its first digits.

Machines hold snapshots too, whose disks are still fetched from them; these holds go by themselves when a
disk is whole, and --release leaves them unless --word names one. Where such a disk was deleted before that,
--release-gone releases what is left of it: each hold whose disk is not where it was. Not where such a
disk was moved, or is another host's: it could not be read any more.

Examples:
  pacsvisor hold 3f9c21 --until 2036-12-31 --reason "trial 17, kept ten years" --store /srv/store
  pacsvisor hold 3f9c21 --until 30d --reason "before the upgrade" --store /srv/store
  pacsvisor hold --list --store /srv/store
  pacsvisor hold 3f9c21 --release --store /srv/store
  pacsvisor hold --release-gone --store /srv/store)";

struct HoldOptions {
  std::string id;
  StorePlace store;
  std::string until;
  std::string reason;
  std::string word;
  bool list = false;
  bool release = false;
  bool release_gone = false;
  bool json = false;
};

nlohmann::json HoldToJson(const Hold& hold) {
  return {{"id", hold.snapshot.Hex()}, {"word", hold.word},     {"until_ns", hold.until_ns},
          {"made_ns", hold.made_ns},   {"reason", hold.reason}, {"damaged", hold.damaged}};
}

// Nothing at the path that it was made for, nor on the way there or from there, names it.
bool IsGone(const Hold& hold) {
  const std::optional<std::string> path = DiskPathOf(hold);
  if (!path.has_value()) {
    return false;
  }
  const std::string names[] = {*path, RestoredName(*path), ReplacedName(*path)};
  return std::ranges::none_of(names, [&hold](const std::string& name) {
    const Result<std::string> source = LayerDirectory::SourceOf(name);
    return !source.ok() || source->find(hold.word) != source->npos;
  });
}

void PrintHold(const Hold& hold) {
  Print(stdout, "{}  {:<21}  {:<19}  {}{}\n", hold.snapshot.Short(), hold.word,
        hold.damaged || hold.until_ns == 0 ? "for ever" : LocalTime(hold.until_ns),
        hold.damaged ? "damaged: it holds until it is released" : Printable(hold.reason),
        IsGone(hold) ? " (no such disk is there)" : "");
}

Status ListHolds(const HoldOptions& options, Store& store) {
  nlohmann::json list = nlohmann::json::array();
  for (const Hold& hold : TRY(store.Holds())) {
    if (!hold.snapshot.Hex().starts_with(options.id)) {
      continue;
    }
    options.json ? list.push_back(HoldToJson(hold)) : PrintHold(hold);
  }
  if (options.json) {
    Print(stdout, "{}\n", DumpJson(list));
  }
  return {};
}

Status ReleaseHolds(const HoldOptions& options, Store& store) {
  const SnapshotId id = TRY(store.Resolve(options.id));
  const size_t released = TRY(store.ReleaseHolds(id, options.word));
  if (released == 0) {
    return Error::Make(ErrorCode::kNotFound, "snapshot {} has no {}; pacsvisor hold --list tells",
                       id.Short(), options.word.empty() ? "hold" : "hold of that word");
  }
  options.json
      ? Print(stdout, "{}\n", DumpJson({{"released", released}}))
      : Print(stdout, "{} hold{} of {} released\n", released, released == 1 ? "" : "s", id.Short());
  return {};
}

Status ReleaseGone(const HoldOptions& options, Store& store) {
  size_t released = 0;
  for (const Hold& hold : TRY(store.Holds())) {
    if (!hold.snapshot.Hex().starts_with(options.id) || !IsGone(hold)) {
      continue;
    }
    released += TRY(store.ReleaseHolds(hold.snapshot, hold.word));
    if (!options.json) {
      PrintHold(hold);
    }
  }
  options.json ? Print(stdout, "{}\n", DumpJson({{"released", released}}))
               : Print(stdout, "{} hold{} released\n", released, released == 1 ? "" : "s");
  return {};
}

Status MakeHold(const HoldOptions& options, Store& store) {
  const SnapshotId id = TRY(store.Resolve(options.id));
  const uint64_t now_ns = TRY(store.Now());
  const uint64_t until_ns = TRY(ParseUntil(options.until, now_ns));
  const Hold hold = TRY(store.AddHold(id, until_ns, options.reason));
  options.json ? Print(stdout, "{}\n", DumpJson(HoldToJson(hold))) : PrintHold(hold);
  return {};
}

ExitStatus HoldAndTell(const HoldOptions& options) {
  const int others =
      (options.list ? 1 : 0) + (options.release ? 1 : 0) + (options.release_gone ? 1 : 0);
  const bool makes = others == 0;
  if (makes != (!options.until.empty() && !options.reason.empty()) || others > 1 ||
      ((makes || options.release) && options.id.empty())) {
    Print(stderr,
          "pacsvisor: give a snapshot with --until and --reason, a snapshot with --release, "
          "--release-gone, or --list\nRun with --help for more information.\n");
    return ExitStatus::kUsage;
  }
  const Result<std::unique_ptr<Store>> store = OpenStoreAt(options.store);
  if (!store.ok()) {
    return Fail(store.error());
  }
  const Status done = options.list           ? ListHolds(options, **store)
                      : options.release      ? ReleaseHolds(options, **store)
                      : options.release_gone ? ReleaseGone(options, **store)
                                             : MakeHold(options, **store);
  return done.ok() ? ExitStatus::kDone : Fail(done.error());
}

}  // namespace

void AddHoldCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<HoldOptions>();
  CLI::App* command = app.add_subcommand("hold", "Keep a snapshot from being pruned before a day");
  command->add_option("ID", options->id, "The snapshot");
  AddStoreOption(*command, options->store);
  command->get_option("--store")->required();
  command->add_option("--until", options->until,
                      "A day such as 2030-12-31, days such as 30d, or forever");
  command->add_option("--reason", options->reason, "Why, for those who find it held");
  command->add_flag("--list", options->list, "Print the holds: snapshot, word, end, reason");
  command->add_flag("--release", options->release, "Take holds back");
  command->add_flag("--release-gone", options->release_gone,
                    "Take back those of disks that were deleted before they were whole");
  command->add_option("--word", options->word, "With --release: this one alone");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(kHoldFooter);
  command->callback([options, status] { *status = HoldAndTell(*options); });
}

}  // namespace pacsvisor
