// pacsvisor erase: a snapshot that nobody can read any more.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"

namespace pacsvisor {
namespace {

constexpr char kEraseFooter[] =
    R"(Destroys the key of one snapshot of an encrypted store: what no other snapshot refers to cannot be
read again, by nobody, whatever is left of it on disk or in copies of the store's other files. Says how
much that is. Its room is freed by the next prune. A snapshot that is held or in use is not erased.

Copies of the file keys/ID of the store, and exports of the snapshot, keep it readable: destroy them too.
An ID may be cut to its first digits.

Examples:
  pacsvisor erase 3f9c21 --store /srv/store --key /etc/pacsvisor/store.key --dry-run
  pacsvisor erase 3f9c21 --store /srv/store --key /etc/pacsvisor/store.key)";

struct EraseOptions {
  std::string id;
  StorePlace store;
  bool dry_run = false;
  bool json = false;
};

Result<EraseReport> EraseIn(const EraseOptions& options) {
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(options.store));
  const SnapshotId id = TRY(store->Resolve(options.id));
  return store->Erase(id, {.dry_run = options.dry_run});
}

}  // namespace

void AddEraseCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<EraseOptions>();
  CLI::App* command =
      app.add_subcommand("erase", "Make a snapshot of an encrypted store unreadable for ever");
  command->add_option("ID", options->id, "The snapshot")->required();
  AddStoreOption(*command, options->store);
  command->get_option("--store")->required();
  command->add_flag("--dry-run", options->dry_run, "Say what would be lost, and change nothing");
  command->add_flag("--json", options->json, "Print a JSON object");
  command->footer(kEraseFooter);
  command->callback([options, status] {
    const Result<EraseReport> report = EraseIn(*options);
    if (!report.ok()) {
      *status = Fail(report.error());
      return;
    }
    if (options->json) {
      Print(stdout, "{}\n",
            DumpJson({{"id", report->info.id.Hex()},
                      {"dry_run", options->dry_run},
                      {"chunks", report->chunks},
                      {"chunk_bytes", report->chunk_bytes},
                      {"other_bytes", report->other_bytes}}));
    } else {
      Print(stdout,
            "snapshot {} {}: {} chunk{}, {}, {} of no other snapshot, and {} of tables and state\n",
            report->info.id.Short(), options->dry_run ? "would be erased" : "erased",
            report->chunks, report->chunks == 1 ? "" : "s", FormatBytes(report->chunk_bytes),
            report->chunks == 1 ? "is" : "are", FormatBytes(report->other_bytes));
    }
    *status = ExitStatus::kDone;
  });
}

}  // namespace pacsvisor
