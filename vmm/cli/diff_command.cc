#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/line_diff.h"
#include "vmm/cli/local_time.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"
#include "vmm/machine/config_text.h"

namespace pacsvisor {
namespace {

constexpr char kDiffFooter[] =
    R"(What the second snapshot holds that the first does not: for the memory and each disk how many blocks
have other contents, how many of these are zeroes now, and in how many runs they lie; then the lines
of the configuration and of what else was noted. Any two snapshots of a store can be compared: one
after the other, two branches, two machines. Of a disk that only one of them has, or of the end of one
that has grown or shrunk, what is not zero is counted. Only the store's tables are read, in proportion
to what differs. An ID may be cut to its first digits.

Examples:
  pacsvisor diff 3f9c21 b2e811 --store /srv/store
  pacsvisor diff 3f9c21 b2e811 --store /srv/store --json | jq '.spaces[] | {name, changed_bytes}')";

struct DiffOptions {
  std::string first;
  std::string second;
  StorePlace store;
  bool json = false;
};

struct TextDiff {
  std::string key;
  std::vector<LineChange> lines;
};

Result<SnapshotDiff> Diff(const DiffOptions& options) {
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(options.store));
  const SnapshotId first = TRY(store->Resolve(options.first));
  const SnapshotId second = TRY(store->Resolve(options.second));
  ProgressBar bar;
  return store->Diff(first, second, [&](const VerifyProgress& progress) {
    bar.Show("comparing", progress.bytes_done, progress.bytes_total);
  });
}

// The last block of a space may be none of the guest's whole.
uint64_t BytesOf(const std::optional<StoredSpace>& space, uint64_t blocks) {
  return space ? std::min(blocks * space->block_bytes, space->size_bytes) : 0;
}

std::vector<TextDiff> DiffTexts(const SnapshotDiff& diff) {
  const auto all_texts = [](const SnapshotInfo& info) {
    std::map<std::string, std::string> texts = info.draft.texts;
    texts["machine"] = info.draft.machine;
    texts["consistency"] = info.draft.consistency;
    return texts;
  };
  const std::map<std::string, std::string> before = all_texts(diff.before);
  const std::map<std::string, std::string> after = all_texts(diff.after);
  std::set<std::string> keys;
  for (const auto* texts : {&before, &after}) {
    for (const auto& [key, text] : *texts) {
      keys.insert(key);
    }
  }
  std::vector<TextDiff> diffs;
  for (const std::string& key : keys) {
    const auto old_text = before.find(key);
    const auto new_text = after.find(key);
    TextDiff text{.key = key,
                  .lines = DiffLines(old_text == before.end() ? "" : old_text->second,
                                     new_text == after.end() ? "" : new_text->second)};
    if (!text.lines.empty()) {
      diffs.push_back(std::move(text));
    }
  }
  return diffs;
}

std::string Blocks(uint64_t count) {
  return fmt::format("{} block{}", count, count == 1 ? "" : "s");
}

std::string SizeText(const StoredSpace& space) { return FormatBytes(space.size_bytes); }

void PrintSpace(const SpaceDiff& space) {
  const std::string name = Printable(space.name);
  if (!space.before || !space.after) {
    const bool added = space.after.has_value();
    const StoredSpace& only = added ? *space.after : *space.before;
    const uint64_t blocks = added ? space.added_blocks : space.removed_blocks;
    Print(stdout, "{}: only the {} has it: {}, of which {} ({}) are not zero\n", name,
          added ? "second" : "first", SizeText(only), Blocks(blocks),
          FormatBytes(BytesOf(only, blocks)));
    return;
  }
  if (space.changed_blocks == 0) {
    Print(stdout, "{}: the same in all of its {}", name,
          FormatBytes(std::min(space.before->size_bytes, space.after->size_bytes)));
  } else {
    Print(stdout, "{}: {} ({}) in {} run{} differ, {} of them zero now", name,
          Blocks(space.changed_blocks), FormatBytes(BytesOf(space.after, space.changed_blocks)),
          space.runs, space.runs == 1 ? "" : "s", space.zeroed_blocks);
  }
  if (space.before->size_bytes != space.after->size_bytes) {
    const bool grown = space.added_blocks > 0 || space.after->size_bytes > space.before->size_bytes;
    const uint64_t blocks = grown ? space.added_blocks : space.removed_blocks;
    Print(stdout, "; {} from {} to {}, {} of the difference are not zero",
          grown ? "grown" : "shrunk", SizeText(*space.before), SizeText(*space.after),
          Blocks(blocks));
  }
  Print(stdout, "\n");
}

void PrintDiff(const SnapshotDiff& diff) {
  for (const auto& [sign, info] : {std::pair("-", &diff.before), std::pair("+", &diff.after)}) {
    Print(stdout, "{} {}  {}  {}  {}\n", sign, info->id.Short(), LocalTime(info->draft.instant_ns),
          Printable(info->draft.machine), Printable(info->draft.message));
  }
  for (const SpaceDiff& space : diff.spaces) {
    PrintSpace(space);
  }
  Print(stdout, "state of vCPUs and devices: {}\n", diff.same_state ? "the same" : "differs");
  for (const TextDiff& text : DiffTexts(diff)) {
    const auto added = static_cast<size_t>(std::count_if(
        text.lines.begin(), text.lines.end(), [](const LineChange& line) { return line.added; }));
    const size_t removed = text.lines.size() - added;
    Print(stdout, "{}: {} line{} removed, {} added\n", Printable(text.key), removed,
          removed == 1 ? "" : "s", added);
    for (const LineChange& line : text.lines) {
      Print(stdout, "  {} {}\n", line.added ? '+' : '-', Printable(line.line));
    }
  }
}

nlohmann::json ToJson(const SnapshotDiff& diff) {
  const auto size_or_null = [](const std::optional<StoredSpace>& space) {
    return space ? nlohmann::json(space->size_bytes) : nlohmann::json();
  };
  nlohmann::json spaces = nlohmann::json::array();
  for (const SpaceDiff& space : diff.spaces) {
    spaces.push_back({{"name", space.name},
                      {"size_bytes_before", size_or_null(space.before)},
                      {"size_bytes_after", size_or_null(space.after)},
                      {"changed_blocks", space.changed_blocks},
                      {"changed_bytes", BytesOf(space.after, space.changed_blocks)},
                      {"zeroed_blocks", space.zeroed_blocks},
                      {"runs", space.runs},
                      {"removed_blocks", space.removed_blocks},
                      {"added_blocks", space.added_blocks}});
  }
  nlohmann::json texts = nlohmann::json::array();
  for (const TextDiff& text : DiffTexts(diff)) {
    nlohmann::json removed = nlohmann::json::array();
    nlohmann::json added = nlohmann::json::array();
    for (const LineChange& line : text.lines) {
      (line.added ? added : removed).push_back(line.line);
    }
    texts.push_back({{"key", text.key}, {"removed", removed}, {"added", added}});
  }
  return {{"before", diff.before.id.Hex()},
          {"after", diff.after.id.Hex()},
          {"spaces", std::move(spaces)},
          {"same_state", diff.same_state},
          {"texts", std::move(texts)}};
}

}  // namespace

void AddDiffCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<DiffOptions>();
  CLI::App* command = app.add_subcommand("diff", "Tell what changed between two snapshots");
  command->add_option("ID1", options->first, "The first snapshot")->required();
  command->add_option("ID2", options->second, "The second")->required();
  AddStoreOption(*command, options->store);
  command->get_option("--store")->required();
  command->add_flag("--json", options->json, "Print a JSON object");
  command->footer(kDiffFooter);
  command->callback([options, status] {
    const Result<SnapshotDiff> diff = Diff(*options);
    if (!diff.ok()) {
      *status = Fail(diff.error());
      return;
    }
    options->json ? Print(stdout, "{}\n", DumpJson(ToJson(*diff))) : PrintDiff(*diff);
    *status = ExitStatus::kDone;
  });
}

}  // namespace pacsvisor
