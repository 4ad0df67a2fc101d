#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/duration.h"
#include "vmm/cli/local_time.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"
#include "vmm/machine/config_text.h"

namespace pacsvisor {
namespace {

constexpr char kSnapshotsFooter[] =
    R"(Oldest first. DIRTY: what the guest wrote since the parent; UNIQUE: what of it the store did not
have; PAUSE: how long the guest stood still; DURABLE: how long until a power cut could not take it;
HELD: until which day no prune removes it (pacsvisor hold).
A running machine tells where its store is; of one that does not run, --store does.

Examples:
  pacsvisor snapshots pacs
  pacsvisor snapshots --store /srv/store
  pacsvisor snapshots pacs --json | jq -r '.[-1].id')";

struct ListOptions {
  std::string name;
  StorePlace store;
  bool json = false;
};

std::optional<uint64_t> FigureOf(const SnapshotInfo& info, const std::string& name) {
  const auto found = info.draft.figures.find(name);
  return found == info.draft.figures.end() ? std::nullopt : std::optional(found->second);
}

std::string BytesOrDash(std::optional<uint64_t> size_bytes) {
  return size_bytes ? FormatBytes(*size_bytes) : "-";
}

std::string DurationOrDash(std::optional<uint64_t> duration_ns) {
  return duration_ns ? FormatDuration(*duration_ns) : "-";
}

constexpr size_t kColumns = 10;
// Numbers stand to the right.
constexpr size_t kFirstNumber = 4;
constexpr size_t kLastNumber = 7;
using Row = std::array<std::string, kColumns>;

struct ListedSnapshot {
  SnapshotInfo info;
  std::vector<Hold> holds;
};

// The hold that lasts longest.
std::string HeldText(const std::vector<Hold>& holds) {
  uint64_t until_ns = 0;
  for (const Hold& hold : holds) {
    if (hold.damaged || hold.until_ns == 0) {
      return "for ever";
    }
    until_ns = std::max(until_ns, hold.until_ns);
  }
  return holds.empty() ? "-" : LocalTime(until_ns).substr(0, 10);
}

Row RowOf(const ListedSnapshot& listed) {
  const SnapshotInfo& info = listed.info;
  return {info.id.Short(),
          LocalTime(info.draft.instant_ns),
          Printable(info.draft.machine),
          info.parent ? info.parent->Short() : "-",
          BytesOrDash(FigureOf(info, "dirty_bytes")),
          FormatBytes(FigureOf(info, "unique_bytes").value_or(info.counts.fresh_bytes)),
          DurationOrDash(FigureOf(info, "pause_ns")),
          DurationOrDash(FigureOf(info, "durable_ns")),
          HeldText(listed.holds),
          Printable(info.draft.message)};
}

void PrintSnapshotTable(const std::vector<ListedSnapshot>& snapshots) {
  std::vector<Row> rows = {{"ID", "WHEN", "MACHINE", "PARENT", "DIRTY", "UNIQUE", "PAUSE",
                            "DURABLE", "HELD", "MESSAGE"}};
  for (const ListedSnapshot& listed : snapshots) {
    rows.push_back(RowOf(listed));
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

nlohmann::json ToJson(const ListedSnapshot& listed) {
  const SnapshotInfo& info = listed.info;
  nlohmann::json holds = nlohmann::json::array();
  for (const Hold& hold : listed.holds) {
    holds.push_back({{"word", hold.word},
                     {"until_ns", hold.until_ns},
                     {"reason", hold.reason},
                     {"damaged", hold.damaged}});
  }
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
          {"state_bytes", info.state_bytes},
          {"holds", std::move(holds)}};
}

Result<std::vector<ListedSnapshot>> ListSnapshots(const ListOptions& options) {
  StorePlace place = options.store;
  if (place.path.empty()) {
    place = TRY(StoreOfMachine(options.name));
  }
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(place));
  const std::vector<Hold> holds = TRY(store->Holds());
  std::vector<ListedSnapshot> snapshots;
  for (SnapshotInfo& info : TRY(store->List())) {
    if (!options.name.empty() && info.draft.machine != options.name) {
      continue;
    }
    ListedSnapshot listed{.info = std::move(info), .holds = {}};
    std::copy_if(holds.begin(), holds.end(), std::back_inserter(listed.holds),
                 [&](const Hold& hold) { return hold.snapshot == listed.info.id; });
    snapshots.push_back(std::move(listed));
  }
  return snapshots;
}

ExitStatus Snapshots(const ListOptions& options) {
  if (options.name.empty() && options.store.path.empty()) {
    Print(stderr,
          "pacsvisor: name a running machine, or a store with --store DIR\n"
          "Run with --help for more information.\n");
    return ExitStatus::kUsage;
  }
  const Result<std::vector<ListedSnapshot>> snapshots = ListSnapshots(options);
  if (!snapshots.ok()) {
    return Fail(snapshots.error());
  }
  if (options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const ListedSnapshot& listed : *snapshots) {
      list.push_back(ToJson(listed));
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
  AddStoreOption(*command, options->store);
  command->add_flag("--json", options->json, "Print a JSON list");
  command->footer(kSnapshotsFooter);
  command->callback([options, status] { *status = Snapshots(*options); });
}

}  // namespace pacsvisor
