#include "vmm/control/control_api.h"

#include <charconv>

#include "vmm/control/machine_json.h"
#include "vmm/control/snapshot_json.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kMachine = "/v1/machine";
constexpr std::string_view kPause = "/v1/machine/pause";
constexpr std::string_view kResume = "/v1/machine/resume";
constexpr std::string_view kStop = "/v1/machine/stop";
constexpr std::string_view kSnapshots = "/v1/snapshots";
constexpr std::string_view kSnapshot = "/v1/snapshots/{number}";
constexpr std::string_view kOpenApi = "/v1/openapi.json";

constexpr ControlApi::Route kRoutes[] = {
    {"GET", kMachine}, {"PUT", kPause},      {"PUT", kResume},   {"PUT", kStop},
    {"GET", kOpenApi}, {"POST", kSnapshots}, {"GET", kSnapshot}, {"DELETE", kSnapshot}};

// What stands in `path` for the {number} of `pattern`; nothing when they do not match. Each number
// has one way to be written.
std::optional<uint64_t> NumberIn(std::string_view path, std::string_view pattern) {
  static constexpr std::string_view kPlaceholder = "{number}";
  const size_t at = pattern.find(kPlaceholder);
  if (at == std::string_view::npos || !path.starts_with(pattern.substr(0, at))) {
    return std::nullopt;
  }
  const std::string_view digits = path.substr(at);
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), number);
  if (error != std::errc() || end != digits.end() || digits.front() == '0') {
    return std::nullopt;
  }
  return number;
}

bool Matches(std::string_view path, std::string_view pattern) {
  return NumberIn(path, pattern).has_value() ||
         (path == pattern && pattern.find('{') == std::string_view::npos);
}

int HttpStatus(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return 400;
    case ErrorCode::kPermissionDenied:
      return 403;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kBusy:
    case ErrorCode::kCancelled:
      return 409;
    case ErrorCode::kUnsupported:
      return 501;
    case ErrorCode::kTimeout:
      return 504;
    case ErrorCode::kNoSpace:
      return 507;
    case ErrorCode::kCorrupt:
    case ErrorCode::kIo:
      return 500;
  }
  CHECK(false, "error code {}", static_cast<int>(code));
}

ApiResponse Failure(const Error& error) {
  return {.status = HttpStatus(error.code()), .body = ErrorToJson(error)};
}

// HTTP's HEAD is answered as GET, without the body (RFC 9110, 9.3.2).
std::string_view RoutedMethod(std::string_view method) { return method == "HEAD" ? "GET" : method; }

}  // namespace

std::span<const ControlApi::Route> ControlApi::Routes() { return kRoutes; }

std::optional<ApiResponse> ControlApi::Refuse(std::string_view method, std::string_view path) {
  std::string allow;
  for (const Route& route : kRoutes) {
    if (Matches(path, route.path)) {
      if (route.method == RoutedMethod(method)) {
        return std::nullopt;
      }
      allow += allow.empty() ? "" : ", ";
      allow += route.method == "GET" ? "GET, HEAD" : route.method;
    }
  }
  if (allow.empty()) {
    return ApiResponse{
        .status = 404,
        .body = ErrorToJson("not_found",
                            fmt::format("there is no such path: {} lists them all", kOpenApi))};
  }
  return ApiResponse{
      .status = 405,
      .body = ErrorToJson("method_not_allowed", fmt::format("{} takes {} only", path, allow)),
      .allow = allow};
}

ApiResponse ControlApi::Handle(std::string_view method, std::string_view path,
                               std::string_view body) {
  if (std::optional<ApiResponse> refusal = Refuse(method, path)) {
    return *std::move(refusal);
  }
  if (path == kMachine) {
    return {.body = DescriptionToJson(machine_.Describe())};
  }
  if (path == kOpenApi) {
    return {.body = std::string(OpenApi())};
  }
  if (path == kStop) {
    return PutStop(body);
  }
  if (path == kSnapshots) {
    return PostSnapshot(body);
  }
  if (const std::optional<uint64_t> number = NumberIn(path, kSnapshot)) {
    return method == "DELETE" ? DeleteSnapshot(*number) : GetSnapshot(*number);
  }
  if (!body.empty()) {
    return {.status = 400, .body = ErrorToJson("invalid_argument", "this request takes no body")};
  }
  return path == kPause ? PutPause() : PutResume();
}

ApiResponse ControlApi::PutPause() {
  const Status paused = machine_.Pause();
  return paused.ok() ? ApiResponse{.body = StateToJson(MachineState::kPaused)}
                     : Failure(paused.error());
}

ApiResponse ControlApi::PutResume() {
  const Status resumed = machine_.Resume();
  return resumed.ok() ? ApiResponse{.body = StateToJson(MachineState::kRunning)}
                      : Failure(resumed.error());
}

ApiResponse ControlApi::PutStop(std::string_view body) {
  const Result<StopRequest> request = StopRequestFromJson(body);
  if (!request.ok()) {
    return Failure(request.error());
  }
  const Status stopping = machine_.RequestStop(*request);
  return stopping.ok() ? ApiResponse{.status = 202, .body = StateToJson(MachineState::kStopping)}
                       : Failure(stopping.error());
}

ApiResponse ControlApi::PostSnapshot(std::string_view body) {
  const Result<SnapshotRequest> request = SnapshotRequestFromJson(body);
  if (!request.ok()) {
    return Failure(request.error());
  }
  const Result<uint64_t> number = machine_.StartSnapshot(*request);
  return number.ok() ? ApiResponse{.status = 202, .body = SnapshotNumberToJson(*number)}
                     : Failure(number.error());
}

ApiResponse ControlApi::GetSnapshot(uint64_t number) {
  const Result<SnapshotProgress> progress = machine_.SnapshotStatus(number);
  return progress.ok() ? ApiResponse{.body = SnapshotProgressToJson(*progress)}
                       : Failure(progress.error());
}

ApiResponse ControlApi::DeleteSnapshot(uint64_t number) {
  const Status cancelled = machine_.CancelSnapshot(number);
  return cancelled.ok() ? ApiResponse{.status = 202, .body = SnapshotNumberToJson(number)}
                        : Failure(cancelled.error());
}

}  // namespace pacsvisor
