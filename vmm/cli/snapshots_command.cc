#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/duration.h"
#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
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
HELD: until which day no prune removes it (pacsvisor hold); VERIFIED: when it was last proven whole
(pacsvisor verify).
--verified-within warns, with exit status 1, of each machine whose newest snapshot that was ever proven
whole is older than that: what could be gone back to for certain is too long ago. Without it the same
warning, with status 0, is of what the machine's own configuration asks ([schedule] verified_within).
A running machine tells where its store is; of one that does not run, --store does.

Examples:
  pacsvisor snapshots pacs
  pacsvisor snapshots --store /srv/store
  pacsvisor snapshots --store /srv/store --verified-within 7d
  pacsvisor snapshots pacs --json | jq -r '.[-1].id')";

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kNsPerUs = 1'000;

struct ListOptions {
  std::string name;
  StorePlace store;
  std::string verified_within;
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

constexpr size_t kColumns = 11;
// Numbers stand to the right.
constexpr size_t kFirstNumber = 4;
constexpr size_t kLastNumber = 7;
using Row = std::array<std::string, kColumns>;

struct ListedSnapshot {
  SnapshotInfo info;
  std::vector<Hold> holds;
  uint64_t verified_ns = 0;  // 0: never
};

struct Listed {
  std::vector<ListedSnapshot> snapshots;
  uint64_t now_ns = 0;
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
          listed.verified_ns == 0 ? "-" : LocalTime(listed.verified_ns),
          Printable(info.draft.message)};
}

void PrintSnapshotTable(const std::vector<ListedSnapshot>& snapshots) {
  std::vector<Row> rows = {{"ID", "WHEN", "MACHINE", "PARENT", "DIRTY", "UNIQUE", "PAUSE",
                            "DURABLE", "HELD", "VERIFIED", "MESSAGE"}};
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
          {"holds", std::move(holds)},
          {"verified_ns", listed.verified_ns}};
}

Result<Listed> ListSnapshots(const ListOptions& options) {
  StorePlace place = options.store;
  if (place.path.empty()) {
    place = TRY(StoreOfMachine(options.name));
  }
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(place));
  const std::vector<Hold> holds = TRY(store->Holds());
  const std::map<SnapshotId, uint64_t> verified = TRY(store->VerifiedTimes());
  Listed list;
  list.now_ns = TRY(store->Now());
  for (SnapshotInfo& info : TRY(store->List())) {
    if (!options.name.empty() && info.draft.machine != options.name) {
      continue;
    }
    const auto proven = verified.find(info.id);
    ListedSnapshot listed{.info = std::move(info),
                          .holds = {},
                          .verified_ns = proven == verified.end() ? 0 : proven->second};
    std::copy_if(holds.begin(), holds.end(), std::back_inserter(listed.holds),
                 [&](const Hold& hold) { return hold.snapshot == listed.info.id; });
    list.snapshots.push_back(std::move(listed));
  }
  return list;
}

// What is asked of a machine: --verified-within, or else its own configuration's as its newest
// snapshot has it. 0: nothing.
uint64_t VerifiedWithinNs(const SnapshotInfo& newest, std::optional<uint32_t> asked_seconds) {
  if (asked_seconds.has_value()) {
    return *asked_seconds * kNsPerSecond;
  }
  const auto text = newest.draft.texts.find("config");
  if (text == newest.draft.texts.end()) {
    return 0;
  }
  const ParsedConfig parsed = ParseConfigText(text->second, "");
  return parsed.config.schedule ? parsed.config.schedule->verified_within_us * kNsPerUs : 0;
}

// The machines whose newest proven snapshot is too old, each with a sentence.
std::vector<std::string> TooLongUnverified(const Listed& list, const std::string& machine,
                                           std::optional<uint32_t> asked_seconds) {
  struct Newest {
    const SnapshotInfo* info = nullptr;
    uint64_t verified_ns = 0;  // the instant of the newest one that was proven; 0: none was
  };
  std::map<std::string, Newest> machines;
  if (!machine.empty()) {
    machines[machine] = {};
  }
  for (const ListedSnapshot& listed : list.snapshots) {
    Newest& newest = machines[listed.info.draft.machine];
    newest.info = &listed.info;
    newest.verified_ns =
        std::max(newest.verified_ns, listed.verified_ns == 0 ? 0 : listed.info.draft.instant_ns);
  }
  std::vector<std::string> warnings;
  for (const auto& [name, newest] : machines) {
    const uint64_t limit_ns = newest.info == nullptr
                                  ? asked_seconds.value_or(0) * kNsPerSecond
                                  : VerifiedWithinNs(*newest.info, asked_seconds);
    if (limit_ns == 0) {
      continue;
    }
    if (newest.verified_ns == 0) {
      warnings.push_back(
          fmt::format("machine '{}' has no snapshot that was verified", Printable(name)));
    } else if (list.now_ns - std::min(newest.verified_ns, list.now_ns) > limit_ns) {
      warnings.push_back(fmt::format("machine '{}': its newest verified snapshot is of {}",
                                     Printable(name), LocalTime(newest.verified_ns)));
    }
  }
  if (machines.empty() && asked_seconds.has_value()) {
    warnings.push_back("the store has no snapshot");
  }
  return warnings;
}

// A failure only where it was asked for here.
ExitStatus WarnOfUnverified(const Listed& list, const ListOptions& options,
                            std::optional<uint32_t> asked_seconds) {
  const std::vector<std::string> warnings = TooLongUnverified(list, options.name, asked_seconds);
  for (const std::string& warning : warnings) {
    Print(stderr, "pacsvisor: {}: take one if need be, and run pacsvisor verify\n", warning);
  }
  return warnings.empty() || !asked_seconds.has_value() ? ExitStatus::kDone : ExitStatus::kFailed;
}

ExitStatus Snapshots(const ListOptions& options) {
  if (options.name.empty() && options.store.path.empty()) {
    Print(stderr,
          "pacsvisor: name a running machine, or a store with --store DIR\n"
          "Run with --help for more information.\n");
    return ExitStatus::kUsage;
  }
  std::optional<uint32_t> limit_seconds;
  if (!options.verified_within.empty()) {
    const Result<uint32_t> seconds = ParseSeconds(options.verified_within, UINT32_MAX);
    if (!seconds.ok()) {
      return Fail(seconds.error());
    }
    limit_seconds = *seconds;
  }
  const Result<Listed> list = ListSnapshots(options);
  if (!list.ok()) {
    return Fail(list.error());
  }
  if (options.json) {
    nlohmann::json array = nlohmann::json::array();
    for (const ListedSnapshot& listed : list->snapshots) {
      array.push_back(ToJson(listed));
    }
    Print(stdout, "{}\n", DumpJson(array));
  } else {
    PrintSnapshotTable(list->snapshots);
  }
  return WarnOfUnverified(*list, options, limit_seconds);
}

}  // namespace

void AddSnapshotsCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<ListOptions>();
  CLI::App* command = app.add_subcommand("snapshots", "List the snapshots in a store");
  command->add_option("NAME", options->name,
                      "Those of this machine alone; it must run, or --store");
  AddStoreOption(*command, options->store);
  command->add_option("--verified-within", options->verified_within,
                      "Warn when the newest verified snapshot is older: 36h, 7d");
  command->add_flag("--json", options->json, "Print a JSON list");
  command->footer(kSnapshotsFooter);
  command->callback([options, status] { *status = Snapshots(*options); });
}

}  // namespace pacsvisor
