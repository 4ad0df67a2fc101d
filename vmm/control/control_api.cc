#include "vmm/control/control_api.h"

#include "vmm/control/machine_json.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kMachine = "/v1/machine";
constexpr std::string_view kPause = "/v1/machine/pause";
constexpr std::string_view kResume = "/v1/machine/resume";
constexpr std::string_view kStop = "/v1/machine/stop";
constexpr std::string_view kOpenApi = "/v1/openapi.json";

constexpr ControlApi::Route kRoutes[] = {
    {"GET", kMachine}, {"PUT", kPause}, {"PUT", kResume}, {"PUT", kStop}, {"GET", kOpenApi}};

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
    if (route.path == path) {
      if (route.method == RoutedMethod(method)) {
        return std::nullopt;
      }
      allow = route.method == "GET" ? "GET, HEAD" : route.method;
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

}  // namespace pacsvisor
