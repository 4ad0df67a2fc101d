#include "guests/dirtier/runs.h"

namespace pacsvisor::dirtier {
namespace {

constexpr std::string_view kKeys = "pages first pattern hot rate seconds writes seed bytes";
constexpr uint64_t kMaxSeconds = 10'000'000;
// The run's number is 16 bits of each page's stamp, the ordinal 48 (pattern.h).
constexpr uint64_t kMaxWrites = (uint64_t{1} << 48) - 1;

bool ReadNumber(const Arguments& arguments, std::string_view key, uint64_t max, uint64_t& value) {
  const auto text = arguments.Find(key);
  if (!text) return true;
  const auto number = ParseNumber(*text);
  if (!number || *number > max) return false;
  value = *number;
  return true;
}

bool ReadPattern(const Arguments& arguments, Pattern& pattern) {
  const auto text = arguments.Find("pattern");
  if (!text) return true;
  if (*text == "sequential") {
    pattern = Pattern::kSequential;
  } else if (*text == "random") {
    pattern = Pattern::kRandom;
  } else if (*text == "hot") {
    pattern = Pattern::kHot;
  } else {
    return false;
  }
  return true;
}

// Part `index` of `total` in `parts` nearly equal parts.
uint64_t PartOf(uint64_t total, uint64_t parts, uint64_t index) {
  return total / parts + (index < total % parts ? 1 : 0);
}

}  // namespace

std::string_view ParseRunRequest(const Arguments& arguments, uint64_t area_pages,
                                 uint64_t processors, RunRequest& request) {
  if (!arguments.FirstUnknown(kKeys).empty()) {
    return "unknown word; known: pages= first= pattern= hot= rate= seconds= writes= seed= bytes=";
  }
  if (!ReadNumber(arguments, "first", area_pages - 1, request.first_page)) {
    return "first= must be a page of the area";
  }
  const uint64_t available = area_pages - request.first_page;
  request.pages = arguments.Find("pages") == "all" ? available : 0;
  if (request.pages == 0 && !ReadNumber(arguments, "pages", available, request.pages)) {
    return "pages= must be all or a number that the area holds";
  }
  // A processor's part must hold a hot and a cold page.
  if (request.pages < 2 * processors) return "pages= must be at least two a processor";
  if (!ReadPattern(arguments, request.pattern)) return "pattern= must be sequential, random or hot";
  if (!ReadNumber(arguments, "hot", 99, request.hot_percent) || request.hot_percent == 0) {
    return "hot= must be 1 to 99 percent";
  }
  if (!ReadNumber(arguments, "seconds", kMaxSeconds, request.seconds)) {
    return "seconds= must be at most 10000000";
  }
  if (!ReadNumber(arguments, "writes", kMaxWrites, request.writes)) {
    return "writes= must be below 2^48";
  }
  if (request.writes != 0 && request.writes < processors) {
    return "writes= must be at least one a processor";
  }
  if (!ReadNumber(arguments, "rate", 1'000'000'000, request.rate) ||
      (request.rate != 0 && request.rate < processors)) {
    return "rate= must be 0 or at least one write a second for each processor, at most 10^9";
  }
  if (!ReadNumber(arguments, "seed", UINT64_MAX, request.seed)) return "seed= must be a number";
  if (!ReadNumber(arguments, "bytes", kPageBytes, request.bytes) || request.bytes < 8 ||
      request.bytes % 8 != 0) {
    return "bytes= must be a multiple of 8 up to 4096";
  }
  return {};
}

uint64_t Runs::Begin(const RunRequest& request, const Clock& clock) {
  const uint64_t processors = control_.processors;
  const uint64_t first_run = control_.run_count + 1;
  last_first_page_ = request.first_page;
  last_pages_ = request.pages;
  uint64_t first_page = request.first_page;
  for (uint64_t i = 0; i < processors; ++i) {
    const uint64_t pages = PartOf(request.pages, processors, i);
    const uint64_t hot_share = pages * request.hot_percent / 100;
    const uint64_t run = ++control_.run_count;
    RunRecord& record = control_.runs[(run - 1) % kMaxRuns];
    record.plan = {
        .run = run,
        .first_page = first_page,
        .pages = pages,
        .hot_pages = request.pattern == Pattern::kHot ? (hot_share == 0 ? 1 : hot_share) : 0,
        .seed = request.seed,
        .pattern = request.pattern,
        .bytes = static_cast<uint32_t>(request.bytes),
        .reserved = 0,
    };
    record.writes = 0;
    workers_[i].Begin(&record, {.writes_per_second = PartOf(request.rate, processors, i),
                                .cycles = request.seconds * clock.hz(),
                                .writes = PartOf(request.writes, processors, i)});
    first_page += pages;
  }
  return first_run;
}

void Runs::RequestStop() {
  for (uint64_t i = 0; i < control_.processors; ++i) workers_[i].RequestStop();
}

bool Runs::finished() const {
  for (uint64_t i = 0; i < control_.processors; ++i) {
    if (!workers_[i].finished()) return false;
  }
  return true;
}

RunOutcome Runs::Acknowledge() {
  RunOutcome total{control_.run_count - control_.processors + 1, 0, 0, RunEnd::kStop};
  for (uint64_t i = 0; i < control_.processors; ++i) {
    const Worker::Outcome outcome = workers_[i].Acknowledge();
    total.writes += outcome.record->writes;
    if (outcome.cycles > total.cycles) total.cycles = outcome.cycles;
    if (i == 0) total.end = outcome.end;
  }
  return total;
}

bool Runs::running() const {
  for (uint64_t i = 0; i < control_.processors; ++i) {
    if (!workers_[i].idle()) return true;
  }
  return false;
}

}  // namespace pacsvisor::dirtier
