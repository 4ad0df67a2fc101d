#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"

namespace pacsvisor {
namespace {

constexpr char kVerifyFooter[] =
    R"(Reads everything that the snapshots stand on and holds it against their ids; without an ID all of
the store. Changes nothing; may run while machines write to the store. An ID may be cut to its first
digits.

Exit status: 0 nothing is damaged; 1 something is, or could not be read.

Examples:
  pacsvisor verify --store /srv/store
  pacsvisor verify 3f9c21 --store /srv/store)";

struct VerifyOptions {
  std::vector<std::string> ids;
  StorePlace store;
  bool json = false;
};

Result<VerifyReport> Verify(const VerifyOptions& options) {
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(options.store));
  std::vector<SnapshotId> ids;
  for (const std::string& prefix : options.ids) {
    ids.push_back(TRY(store->Resolve(prefix)));
  }
  ProgressBar bar;
  return store->Verify(ids, [&](const VerifyProgress& progress) {
    bar.Show("verifying", progress.bytes_done, progress.bytes_total);
  });
}

void PrintReport(const VerifyReport& report) {
  for (const VerifyReport::Damage& damage : report.damages) {
    // The store's own sentence most often begins with the file.
    Print(stdout, "{}{}\n", damage.what.starts_with(damage.file) ? "" : damage.file + ": ",
          damage.what);
    std::string needed_by;
    for (const SnapshotId& id : damage.snapshots) {
      needed_by += (needed_by.empty() ? "" : " ") + id.Short();
    }
    Print(stdout, "  {}\n", needed_by.empty() ? "no snapshot needs it" : "needed by " + needed_by);
  }
  Print(stdout, "{} snapshot{}, {} read: {}\n", report.snapshots, report.snapshots == 1 ? "" : "s",
        FormatBytes(report.bytes),
        report.damages.empty() ? "nothing is damaged"
                               : fmt::format("{} damage{}", report.damages.size(),
                                             report.damages.size() == 1 ? "" : "s"));
}

nlohmann::json ToJson(const VerifyReport& report) {
  nlohmann::json damages = nlohmann::json::array();
  for (const VerifyReport::Damage& damage : report.damages) {
    nlohmann::json ids = nlohmann::json::array();
    for (const SnapshotId& id : damage.snapshots) {
      ids.push_back(id.Hex());
    }
    damages.push_back(
        {{"file", damage.file}, {"what", damage.what}, {"snapshots", std::move(ids)}});
  }
  return {
      {"snapshots", report.snapshots}, {"bytes", report.bytes}, {"damages", std::move(damages)}};
}

}  // namespace

void AddVerifyCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* command = app.add_subcommand("verify", "Prove that snapshots are what they were");
  command->add_option("ID", options->ids, "The snapshots; default: all, and the rest of the store");
  AddStoreOption(*command, options->store);
  command->get_option("--store")->required();
  command->add_flag("--json", options->json, "Print a JSON object");
  command->footer(kVerifyFooter);
  command->callback([options, status] {
    const Result<VerifyReport> report = Verify(*options);
    if (!report.ok()) {
      *status = Fail(report.error());
      return;
    }
    options->json ? Print(stdout, "{}\n", DumpJson(ToJson(*report))) : PrintReport(*report);
    *status = report->damages.empty() ? ExitStatus::kDone : ExitStatus::kFailed;
  });
}

}  // namespace pacsvisor
