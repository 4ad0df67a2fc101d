#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/interrupts.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"
#include "vmm/store/store_rewrite.h"

namespace pacsvisor {
namespace {

constexpr char kCopyFooter[] =
    R"(The snapshots with their ids, parents and holds into another store; only what that lacks is read and
sent, and every block is proven on the way. Interrupted at any point, the same command goes on: what
has arrived is not sent again (a prune of that store takes it away when it stays without a snapshot).
A store is made in the directory when that is empty or not there. Both must be mounted here; to another
host without that, pacsvisor export goes through ssh. An ID may be cut to its first digits.

Snapshots of an encrypted store go into a store with the same secret: one that is made here has it, under
a key file of its own if --to-key names one. --rewrite copies between any two stores, such as from one
that is not encrypted into one that is (that of --to-key): every block is read, and written by the other
store's keys. What comes of it has an id of its own, and says in its texts which snapshot it was
("rewritten_from"); interrupted, it begins anew.

Examples:
  pacsvisor copy 3f9c21 --to /mnt/backup/store --store /srv/store
  pacsvisor copy 3f9c21 --to /mnt/usb/store --to-key /etc/pacs.key --rewrite --store /srv/store
  pacsvisor snapshots --store /srv/store --json | jq -r '.[].id' |
    xargs pacsvisor copy --to /mnt/backup/store --store /srv/store)";

struct CopyOptions {
  std::vector<std::string> ids;
  StorePlace store;
  StorePlace to;
  bool rewrite = false;
  bool json = false;
};

// Oldest first: a child's tables are mostly its parent's.
Result<std::vector<SnapshotId>> SnapshotsToCopy(const CopyOptions& options, Store& store) {
  std::vector<SnapshotId> wanted;
  for (const std::string& prefix : options.ids) {
    wanted.push_back(TRY(store.Resolve(prefix)));
  }
  std::vector<SnapshotId> ids;
  for (const SnapshotInfo& info : TRY(store.List())) {
    if (std::find(wanted.begin(), wanted.end(), info.id) != wanted.end()) {
      ids.push_back(info.id);
    }
  }
  return ids;
}

void PrintCopy(const CopyReport& report, bool rewrite) {
  const std::string holds =
      report.holds == 0 ? ""
                        : fmt::format(", {} hold{}", report.holds, report.holds == 1 ? "" : "s");
  if (report.was_there) {
    Print(stdout, "snapshot {} is in that store already{}\n", report.info.id.Short(), holds);
    return;
  }
  const auto from = report.info.draft.texts.find(kRewrittenFrom);
  Print(stdout, "snapshot {} copied{}: {} of {} chunks were there, {} sent{}\n",
        rewrite ? from->second.substr(0, SnapshotId::kShortDigits) : report.info.id.Short(),
        rewrite ? " as " + report.info.id.Short() : std::string(), report.known_chunks,
        report.chunks, FormatBytes(report.sent_bytes), holds);
}

nlohmann::json ToJson(const CopyReport& report) {
  return {{"id", report.info.id.Hex()},      {"was_there", report.was_there},
          {"chunks", report.chunks},         {"known_chunks", report.known_chunks},
          {"sent_bytes", report.sent_bytes}, {"holds", report.holds}};
}

Status CopyAndTell(const CopyOptions& options) {
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(options.store));
  const std::vector<SnapshotId> ids = TRY(SnapshotsToCopy(options, *store));
  const std::unique_ptr<Store> target = TRY(OpenOrMakeStoreAt(
      options.to, [&](const StoreKey* key) -> Result<std::shared_ptr<const StoreSecret>> {
        return !options.rewrite ? store->secret()
               : key == nullptr ? std::shared_ptr<const StoreSecret>()
                                : StoreSecret::Random();
      }));
  Interrupts interrupts = TRY(Interrupts::Catch());
  nlohmann::json list = nlohmann::json::array();
  for (size_t i = 0; i < ids.size(); ++i) {
    ProgressBar bar;
    const std::string what =
        ids.size() == 1 ? "copying" : fmt::format("copying {} of {}", i + 1, ids.size());
    const CopyWatch watch{.progress =
                              [&](const VerifyProgress& progress) {
                                bar.Show(what, progress.bytes_done, progress.bytes_total);
                              },
                          .stopped = [&] { return interrupts.Take(); }};
    Result<CopyReport> report = options.rewrite ? RewriteSnapshot(*store, *target, ids[i], watch)
                                                : store->CopyTo(*target, ids[i], watch);
    bar.Clear();
    if (!report.ok() && !options.rewrite && report.error().code() == ErrorCode::kCancelled) {
      return Error::Make(ErrorCode::kCancelled, "{}; the same command goes on where it was",
                         report.error().message());
    }
    const CopyReport copied = TRY(std::move(report));
    options.json ? list.push_back(ToJson(copied)) : PrintCopy(copied, options.rewrite);
  }
  if (options.json) {
    Print(stdout, "{}\n", DumpJson(list));
  }
  return {};
}

}  // namespace

void AddCopyCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<CopyOptions>();
  CLI::App* command = app.add_subcommand("copy", "Copy snapshots into another store");
  command->add_option("ID", options->ids, "The snapshots")->required();
  command->add_option("--to", options->to.path, "The other store's directory")->required();
  AddStoreOption(*command, options->store);
  command->get_option("--store")->required();
  command->add_option(
      "--to-key", options->to.key,
      "The key file of the other store; default: that of --key, with --rewrite none");
  command->add_flag("--rewrite", options->rewrite,
                    "Into a store of any other kind or secret, under another id");
  command->add_flag("--json", options->json, "Print a JSON list");
  command->footer(kCopyFooter);
  command->callback([options, status] {
    if (options->to.key.empty() && !options->rewrite) {
      options->to.key = options->store.key;
    }
    const Status done = CopyAndTell(*options);
    *status = done.ok() ? ExitStatus::kDone : Fail(done.error());
  });
}

}  // namespace pacsvisor
