#include <sys/random.h>

#include <cerrno>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/cli/byte_count.h"
#include "vmm/cli/command.h"
#include "vmm/cli/interrupts.h"
#include "vmm/cli/local_time.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"
#include "vmm/control/object_reader.h"

namespace pacsvisor {
namespace {

constexpr char kVerifyFooter[] =
    R"(Reads everything that the snapshots stand on and holds it against their ids; without an ID all of
the store. Machines may write to the store meanwhile. The store keeps when each snapshot was proven
whole, which pacsvisor snapshots tells. One of all that was interrupted is gone on with by the next,
in the 7 days after it was begun; --restart begins again. An ID may be cut to its first digits.

--sample, for every day, reads all roots and, chosen at random, a share of everything below them, or
so many chunks (and the same share of the tables). It says what share it proved; the seed that it
prints makes --seed choose the same again.

Exit status: 0 nothing is damaged; 1 something is, or could not be read, or it was interrupted.

Examples:
  pacsvisor verify --store /srv/store
  pacsvisor verify 3f9c21 --store /srv/store
  pacsvisor verify --sample 2% --store /srv/store)";

struct VerifyOptions {
  std::vector<std::string> ids;
  StorePlace store;
  std::string sample;
  std::optional<uint64_t> seed;
  bool restart = false;
  bool json = false;
};

// "2%", "0.5%", "10000".
Result<VerifyRequest::Sample> ParseSample(const std::string& text) {
  VerifyRequest::Sample sample;
  const bool percent = text.ends_with('%');
  const char* const end = text.data() + text.size() - (percent ? 1 : 0);
  std::from_chars_result parsed = {};
  if (percent) {
    parsed = std::from_chars(text.data(), end, sample.share, std::chars_format::fixed);
    sample.share /= 100;
  } else {
    parsed = std::from_chars(text.data(), end, sample.chunks);
  }
  const bool some = percent ? sample.share > 0 && sample.share <= 1 : sample.chunks > 0;
  if (parsed.ec != std::errc() || parsed.ptr != end || !some) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is no sample: write a share such as 2% or 0.5%, or a number of chunks",
                       text);
  }
  return sample;
}

Result<VerifyRequest> RequestOf(const VerifyOptions& options, Store& store) {
  VerifyRequest request;
  request.restart = options.restart;
  for (const std::string& prefix : options.ids) {
    request.ids.push_back(TRY(store.Resolve(prefix)));
  }
  if (!options.sample.empty()) {
    request.sample = TRY(ParseSample(options.sample));
    if (options.seed.has_value()) {
      request.sample->seed = *options.seed;
    } else if (::getrandom(&request.sample->seed, sizeof(request.sample->seed), 0) !=
               sizeof(request.sample->seed)) {
      return Error::FromErrno(errno, "the kernel has no random numbers for the sample");
    }
  }
  return request;
}

Result<VerifyReport> Verify(const VerifyOptions& options) {
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(options.store));
  VerifyRequest request = TRY(RequestOf(options, *store));
  Interrupts interrupts = TRY(Interrupts::Catch());
  request.stopped = [&interrupts] { return interrupts.Take(); };
  ProgressBar bar;
  Result<VerifyReport> report =
      store->VerifyAndRecord(request, [&](const VerifyProgress& progress) {
        bar.Show("verifying", progress.bytes_done, progress.bytes_total);
      });
  const bool goes_on = !report.ok() && report.error().code() == ErrorCode::kCancelled &&
                       request.ids.empty() && !request.sample.has_value();
  return goes_on ? Result<VerifyReport>(Error::Make(ErrorCode::kCancelled,
                                                    "{}; the same command goes on where it was",
                                                    report.error().message()))
                 : std::move(report);
}

void PrintDamages(const VerifyReport& report) {
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
}

double ShareOf(const VerifyReport::Sample& sample) {
  return sample.chunks_total == 0
             ? 1
             : static_cast<double>(sample.chunks) / static_cast<double>(sample.chunks_total);
}

void PrintReport(const VerifyReport& report) {
  PrintDamages(report);
  if (report.proven_before_bytes > 0) {
    Print(stdout, "gone on with: {} were proven before, since {}\n",
          FormatBytes(report.proven_before_bytes), LocalTime(report.begun_ns));
  }
  if (report.sample.has_value()) {
    Print(stdout,
          "a sample: {} of {} chunks ({:.3g}%) are what they were; --seed {} chooses them\n",
          report.sample->chunks, report.sample->chunks_total, 100 * ShareOf(*report.sample),
          report.sample->seed);
  }
  Print(stdout, "{} snapshot{}, {} read: {}\n", report.snapshots, report.snapshots == 1 ? "" : "s",
        FormatBytes(report.bytes),
        report.damages.empty() ? "nothing is damaged"
                               : fmt::format("{} damage{}", report.damages.size(),
                                             report.damages.size() == 1 ? "" : "s"));
  if (!report.not_recorded.empty()) {
    Print(stderr, "pacsvisor: the store does not know of this: {}\n", report.not_recorded);
  }
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
  nlohmann::json json = {{"snapshots", report.snapshots},
                         {"bytes", report.bytes},
                         {"proven_before_bytes", report.proven_before_bytes},
                         {"begun_ns", report.begun_ns},
                         {"recorded", !report.sample.has_value() && report.not_recorded.empty()},
                         {"damages", std::move(damages)}};
  if (report.sample.has_value()) {
    json["sample"] = {{"seed", report.sample->seed},
                      {"chunks", report.sample->chunks},
                      {"chunks_total", report.sample->chunks_total},
                      {"share", ShareOf(*report.sample)}};
  }
  return json;
}

ExitStatus VerifyAndTell(const VerifyOptions& options) {
  const bool sampled = !options.sample.empty();
  if ((sampled && (!options.ids.empty() || options.restart)) ||
      (options.restart && !options.ids.empty()) || (options.seed.has_value() && !sampled)) {
    Print(stderr,
          "pacsvisor: --sample and --restart are of the whole store, and --seed of a sample\n"
          "Run with --help for more information.\n");
    return ExitStatus::kUsage;
  }
  const Result<VerifyReport> report = Verify(options);
  if (!report.ok()) {
    return Fail(report.error());
  }
  options.json ? Print(stdout, "{}\n", DumpJson(ToJson(*report))) : PrintReport(*report);
  return report->damages.empty() ? ExitStatus::kDone : ExitStatus::kFailed;
}

}  // namespace

void AddVerifyCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* command = app.add_subcommand("verify", "Prove that snapshots are what they were");
  command->add_option("ID", options->ids, "The snapshots; default: all, and the rest of the store");
  AddStoreOption(*command, options->store);
  command->get_option("--store")->required();
  command->add_option("--sample", options->sample,
                      "Only a random share (2%) or number of chunks (10000)");
  command->add_option("--seed", options->seed, "Of an earlier sample, for the same one");
  command->add_flag("--restart", options->restart, "Do not go on with one that was interrupted");
  command->add_flag("--json", options->json, "Print a JSON object");
  command->footer(kVerifyFooter);
  command->callback([options, status] { *status = VerifyAndTell(*options); });
}

}  // namespace pacsvisor
