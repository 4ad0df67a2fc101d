#include "vmm/control/snapshot_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "vmm/control/machine_json.h"
#include "vmm/control/object_reader.h"
#include "vmm/control/untrusted_json.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

constexpr size_t kIdDigits = 64;
constexpr int kInternalError = 500;  // the HTTP status of an error that is no JSON

bool IsId(const std::string& text) {
  return text.size() == kIdDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

SnapshotResult ResultFromJson(const Json& json, ObjectReader* outer) {
  ObjectReader reader(json);
  SnapshotResult result{.id = reader.Text("id"),
                        .parent = reader.Text("parent"),
                        .consistency = reader.Text("consistency"),
                        .budget_met = reader.Boolean("budget_met")};
  for (const auto& [name, figure] : reader.Object("figures").items()) {
    if (!figure.is_number_unsigned()) {
      reader.Fail("has 'figures' of a wrong type");
      continue;
    }
    result.figures[name] = figure.get<uint64_t>();
  }
  for (const Json& warning : reader.List("warnings")) {
    if (!warning.is_string()) {
      reader.Fail("has 'warnings' of a wrong type");
      continue;
    }
    result.warnings.push_back(warning.get<std::string>());
  }
  if (!IsId(result.id) || !(result.parent.empty() || IsId(result.parent))) {
    reader.Fail("has an id that is none");
  }
  if (!reader.problem().empty()) {
    outer->Fail("has a result that " + reader.problem());
  }
  return result;
}

}  // namespace

std::string SnapshotRequestToJson(const SnapshotRequest& request) {
  return DumpJson({{"message", request.message},
                   {"pause_budget_us", request.pause_budget_us},
                   {"quiesce", request.quiesce},
                   {"quiesce_timeout_ms", request.quiesce_timeout_ms}});
}

Result<SnapshotRequest> SnapshotRequestFromJson(std::string_view text) {
  SnapshotRequest request;
  if (text.empty()) {
    return request;
  }
  const Json json = TRY(ParseUntrustedJson(text, kRequestBodyLimitBytes));
  ObjectReader reader(json);
  if (reader.Has("message")) {
    request.message = reader.Text("message");
  }
  if (reader.Has("pause_budget_us")) {
    request.pause_budget_us = reader.Number("pause_budget_us", UINT64_MAX);
  }
  if (reader.Has("quiesce")) {
    request.quiesce = reader.Boolean("quiesce");
  }
  if (reader.Has("quiesce_timeout_ms")) {
    request.quiesce_timeout_ms =
        static_cast<uint32_t>(reader.Number("quiesce_timeout_ms", UINT32_MAX));
  }
  reader.RefuseOthers({"message", "pause_budget_us", "quiesce", "quiesce_timeout_ms"});
  if (!reader.problem().empty()) {
    return Error::Make(
        ErrorCode::kInvalidArgument,
        "the request {}: send {{\"message\": TEXT, \"pause_budget_us\": NUMBER, "
        "\"quiesce\": true or false, \"quiesce_timeout_ms\": NUMBER}}, each optional",
        reader.problem());
  }
  TRY(CheckSnapshotRequest(request));
  return request;
}

std::string SnapshotNumberToJson(uint64_t number) { return DumpJson({{"number", number}}); }

Result<uint64_t> SnapshotNumberFromJson(std::string_view text) {
  const Json json = TRY(ParseUntrustedJson(text, kResponseBodyLimitBytes));
  ObjectReader reader(json);
  const uint64_t number = reader.Number("number", UINT64_MAX);
  if (!reader.problem().empty()) {
    return Error::Make(ErrorCode::kCorrupt, "the machine's answer {}", reader.problem());
  }
  return number;
}

std::string SnapshotProgressToJson(const SnapshotProgress& progress) {
  Json json = {{"number", progress.number},
               {"phase", SnapshotPhaseName(progress.phase)},
               {"bytes_done", progress.bytes_done},
               {"bytes_total", progress.bytes_total}};
  if (progress.result) {
    const SnapshotResult& result = *progress.result;
    json["result"] = {{"id", result.id},
                      {"parent", result.parent},
                      {"figures", result.figures.empty() ? Json::object() : Json(result.figures)},
                      {"consistency", result.consistency},
                      {"warnings", result.warnings},
                      {"budget_met", result.budget_met}};
  }
  if (progress.error) {
    json["error"] = Json::parse(ErrorToJson(*progress.error));  // our own text: it is JSON
  }
  return DumpJson(json);
}

Result<SnapshotProgress> SnapshotProgressFromJson(std::string_view text) {
  const Json json = TRY(ParseUntrustedJson(text, kResponseBodyLimitBytes));
  ObjectReader reader(json);
  SnapshotProgress progress;
  progress.number = reader.Number("number", UINT64_MAX);
  progress.bytes_done = reader.Number("bytes_done", UINT64_MAX);
  progress.bytes_total = reader.Number("bytes_total", UINT64_MAX);
  if (const auto phase = ParseSnapshotPhase(reader.Text("phase"))) {
    progress.phase = *phase;
  } else {
    reader.Fail("has an unknown 'phase'");
  }
  if (progress.phase == SnapshotPhase::kDone) {
    progress.result = ResultFromJson(reader.Object("result"), &reader);
  }
  if (progress.phase == SnapshotPhase::kFailed) {
    progress.error = ErrorFromJson(kInternalError, DumpJson(reader.Object("error")));
  }
  if (!reader.problem().empty()) {
    return Error::Make(ErrorCode::kCorrupt, "the snapshot's progress {}", reader.problem());
  }
  return progress;
}

}  // namespace pacsvisor
