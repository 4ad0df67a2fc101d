#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/duration.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"
#include "vmm/machine/config_text.h"

namespace pacsvisor {
namespace {

constexpr char kSnapshotsFooter[] =
    R"(Oldest first. DIRTY: what the guest wrote since the parent; UNIQUE: what of it the store did not
have; PAUSE: how long the guest stood still; DURABLE: how long until a power cut could not take it.
A running machine tells where its store is; of one that does not run, --store does.

Examples:
  pacsvisor snapshots pacs
  pacsvisor snapshots --store /srv/store
  pacsvisor snapshots pacs --json | jq -r '.[-1].id')";

struct ListOptions {
  std::string name;
  std::string store;
  bool json = false;
};

std::optional<uint64_t> FigureOf(const SnapshotInfo& info, const std::string& name) {
  const auto found = info.draft.figures.find(name);
  return found == info.draft.figures.end() ? std::nullopt : std::optional(found->second);
}

// By this host's clock and time zone; the taker's offset is not known.
std::string LocalTime(uint64_t instant_ns) {
  constexpr uint64_t kNsPerSecond = 1'000'000'000;
  const auto seconds = static_cast<time_t>(instant_ns / kNsPerSecond);
  tm parts = {};
  char text[32];
  return localtime_r(&seconds, &parts) != nullptr &&
                 std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts) != 0
             ? text
             : "-";
}

std::string BytesOrDash(std::optional<uint64_t> size_bytes) {
  return size_bytes ? FormatBytes(*size_bytes) : "-";
}

std::string DurationOrDash(std::optional<uint64_t> duration_ns) {
  return duration_ns ? FormatDuration(*duration_ns) : "-";
}

constexpr size_t kColumns = 9;
// Numbers stand to the right.
constexpr size_t kFirstNumber = 4;
constexpr size_t kLastNumber = 7;
using Row = std::array<std::string, kColumns>;

Row RowOf(const SnapshotInfo& info) {
  return {info.id.Short(),
          LocalTime(info.draft.instant_ns),
          Printable(info.draft.machine),
          info.parent ? info.parent->Short() : "-",
          BytesOrDash(FigureOf(info, "dirty_bytes")),
          FormatBytes(FigureOf(info, "unique_bytes").value_or(info.counts.fresh_bytes)),
          DurationOrDash(FigureOf(info, "pause_ns")),
          DurationOrDash(FigureOf(info, "durable_ns")),
          Printable(info.draft.message)};
}

void PrintSnapshotTable(const std::vector<SnapshotInfo>& snapshots) {
  std::vector<Row> rows = {
      {"ID", "WHEN", "MACHINE", "PARENT", "DIRTY", "UNIQUE", "PAUSE", "DURABLE", "MESSAGE"}};
  for (const SnapshotInfo& info : snapshots) {
    rows.push_back(RowOf(info));
  }
  std::array<size_t, kColumns> widths = {};
  for (const Row& row : rows) {
    for (size_t column = 0; column + 1 < kColumns; ++column) {  // the last one needs none
      widths[column] = std::max(widths[column], row[column].size());
    }
  }
  for (const Row& row : rows) {
    std::string line;
    for (size_t column = 0; column < kColumns; ++column) {
      line += column >= kFirstNumber && column <= kLastNumber
                  ? fmt::format("{:>{}}  ", row[column], widths[column])
                  : fmt::format("{:<{}}  ", row[column], widths[column]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    Print(stdout, "{}\n", line);
  }
}

nlohmann::json ToJson(const SnapshotInfo& info) {
  nlohmann::json spaces = nlohmann::json::array();
  for (const StoredSpace& space : info.spaces) {
    spaces.push_back({{"name", space.name},
                      {"block_bytes", space.block_bytes},
                      {"size_bytes", space.size_bytes}});
  }
  const WriterCounts& counts = info.counts;
  return {{"id", info.id.Hex()},
          {"parent", info.parent ? info.parent->Hex() : ""},
          {"machine", info.draft.machine},
          {"message", info.draft.message},
          {"instant_ns", info.draft.instant_ns},
          {"consistency", info.draft.consistency},
          {"figures", info.draft.figures.empty() ? nlohmann::json::object()
                                                 : nlohmann::json(info.draft.figures)},
          {"spaces", std::move(spaces)},
          {"blocks",
           {{"given", counts.given},
            {"zero", counts.zero},
            {"unchanged", counts.unchanged},
            {"known", counts.known},
            {"fresh", counts.fresh}}},
          {"fresh_bytes", counts.fresh_bytes},
          {"stored_bytes", counts.stored_bytes},
          {"state_bytes", info.state_bytes}};
}

Result<std::vector<SnapshotInfo>> ListSnapshots(const ListOptions& options) {
  std::string path = options.store;
  if (path.empty()) {
    path = TRY(StorePathOfMachine(options.name));
  }
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(path));
  std::vector<SnapshotInfo> snapshots = TRY(store->List());
  if (!options.name.empty()) {
    std::erase_if(snapshots,
                  [&](const SnapshotInfo& info) { return info.draft.machine != options.name; });
  }
  return snapshots;
}

ExitStatus Snapshots(const ListOptions& options) {
  if (options.name.empty() && options.store.empty()) {
    Print(stderr,
          "pacsvisor: name a running machine, or a store with --store DIR\n"
          "Run with --help for more information.\n");
    return ExitStatus::kUsage;
  }
  const Result<std::vector<SnapshotInfo>> snapshots = ListSnapshots(options);
  if (!snapshots.ok()) {
    return Fail(snapshots.error());
  }
  if (options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const SnapshotInfo& info : *snapshots) {
      list.push_back(ToJson(info));
    }
    Print(stdout, "{}\n", DumpJson(list));
  } else {
    PrintSnapshotTable(*snapshots);
  }
  return ExitStatus::kDone;
}

}  // namespace

void AddSnapshotsCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<ListOptions>();
  CLI::App* command = app.add_subcommand("snapshots", "List the snapshots in a store");
  command->add_option("NAME", options->name,
                      "Those of this machine alone; it must run, or --store");
  command->add_option("--store", options->store, "The store's directory");
  command->add_flag("--json", options->json, "Print a JSON list");
  command->footer(kSnapshotsFooter);
  command->callback([options, status] { *status = Snapshots(*options); });
}

}  // namespace pacsvisor
