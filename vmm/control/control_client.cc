#include "vmm/control/control_client.h"

#include <httplib.h>

#include <utility>

#include "vmm/control/machine_json.h"
#include "vmm/control/snapshot_json.h"
#include "vmm/control/unix_socket.h"

namespace pacsvisor {
namespace {

constexpr int kConnectSeconds = 5;
constexpr char kSnapshotsPath[] = "/v1/snapshots";

Error ConnectionError(httplib::Error error, const std::string& path) {
  switch (error) {
    case httplib::Error::Connection:
    case httplib::Error::ConnectionTimeout:
      return Error::Make(ErrorCode::kNotFound,
                         "the machine's socket '{}' takes no connection: it may be starting or "
                         "ending; try again",
                         path);
    case httplib::Error::Read:
      return Error::Make(ErrorCode::kTimeout,
                         "the machine does not answer on '{}': it may be ending or hung; pacsvisor "
                         "ps shows its process",
                         path);
    default:
      return Error::Make(ErrorCode::kIo, "talking to the machine on '{}' failed: {}", path,
                         httplib::to_string(error));
  }
}

}  // namespace

Result<std::string> ControlClient::Call(const char* method, const std::string& path,
                                        std::string body) {
  TRY(CheckUnixSocketPath(socket_path_));
  httplib::Client client(socket_path_, 80);  // the port is not used
  client.set_address_family(AF_UNIX);
  client.set_connection_timeout(kConnectSeconds);
  client.set_read_timeout(timeout_seconds_);
  client.set_write_timeout(timeout_seconds_);
  httplib::Request request;
  request.method = method;
  request.path = path;
  request.headers = {{"Host", "localhost"}, {"Connection", "close"}};
  if (!body.empty()) {
    request.headers.emplace("Content-Type", "application/json");
    request.body = std::move(body);
  }
  std::string answer;
  request.content_receiver = [&](const char* data, size_t size_bytes, uint64_t, uint64_t) {
    if (answer.size() + size_bytes > kResponseBodyLimitBytes) {
      return false;
    }
    answer.append(data, size_bytes);
    return true;
  };
  httplib::Response response;
  httplib::Error error = httplib::Error::Success;
  if (!client.send(request, response, error)) {
    return ConnectionError(error, socket_path_);
  }
  if (response.status < 200 || response.status >= 300) {
    return ErrorFromJson(response.status, answer);
  }
  return answer;
}

Result<MachineDescription> ControlClient::Describe() {
  return DescriptionFromJson(TRY(Call("GET", "/v1/machine", "")));
}

Status ControlClient::Pause() {
  TRY(Call("PUT", "/v1/machine/pause", ""));
  return {};
}

Status ControlClient::Resume() {
  TRY(Call("PUT", "/v1/machine/resume", ""));
  return {};
}

Status ControlClient::RequestStop(const StopRequest& request) {
  TRY(Call("PUT", "/v1/machine/stop", StopRequestToJson(request)));
  return {};
}

Result<uint64_t> ControlClient::StartSnapshot(const SnapshotRequest& request) {
  return SnapshotNumberFromJson(TRY(Call("POST", kSnapshotsPath, SnapshotRequestToJson(request))));
}

Result<SnapshotProgress> ControlClient::SnapshotStatus(uint64_t number) {
  return SnapshotProgressFromJson(
      TRY(Call("GET", fmt::format("{}/{}", kSnapshotsPath, number), "")));
}

Status ControlClient::CancelSnapshot(uint64_t number) {
  TRY(Call("DELETE", fmt::format("{}/{}", kSnapshotsPath, number), ""));
  return {};
}

}  // namespace pacsvisor
