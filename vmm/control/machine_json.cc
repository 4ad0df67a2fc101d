#include "vmm/control/machine_json.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "vmm/control/object_reader.h"
#include "vmm/control/untrusted_json.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

constexpr std::array kErrorCodes = {ErrorCode::kInvalidArgument,  ErrorCode::kNotFound,
                                    ErrorCode::kPermissionDenied, ErrorCode::kBusy,
                                    ErrorCode::kUnsupported,      ErrorCode::kCorrupt,
                                    ErrorCode::kNoSpace,          ErrorCode::kIo,
                                    ErrorCode::kTimeout,          ErrorCode::kCancelled};

std::string CodeText(ErrorCode code) {
  std::string text(ErrorCodeName(code));
  std::replace(text.begin(), text.end(), ' ', '_');
  return text;
}

std::optional<MachineState> ParseState(std::string_view name) {
  for (const MachineState state :
       {MachineState::kRunning, MachineState::kPaused, MachineState::kStopping}) {
    if (MachineStateName(state) == name) {
      return state;
    }
  }
  return std::nullopt;
}

Json ToJson(const DiskDescription& disk) {
  return {{"path", disk.path},
          {"serial", disk.serial},
          {"size_bytes", disk.size_bytes},
          {"there_bytes", disk.there_bytes},
          {"read_only", disk.read_only}};
}

Json ToJson(const NetDescription& net) {
  return {{"backend", net.backend},
          {"mac", net.mac},
          {"interface", net.interface},
          {"forwards", net.forwards},
          {"isolated", net.isolated}};
}

DiskDescription DiskFromJson(const Json& json, ObjectReader* outer) {
  ObjectReader reader(json);
  DiskDescription disk{.path = reader.Text("path"),
                       .serial = reader.Text("serial"),
                       .size_bytes = reader.Number("size_bytes", UINT64_MAX),
                       .there_bytes = reader.Number("there_bytes", UINT64_MAX),
                       .read_only = reader.Boolean("read_only")};
  if (!reader.problem().empty()) {
    outer->Fail("has a disk that " + reader.problem());
  }
  return disk;
}

Json ToJson(const ScheduleDescription& schedule) {
  return {{"every_ms", schedule.every_ms},
          {"next_in_ms", schedule.next_in_ms},
          {"failures", schedule.failures},
          {"last_error", schedule.last_error}};
}

ScheduleDescription ScheduleFromJson(const Json& json, ObjectReader* outer) {
  ObjectReader reader(json);
  ScheduleDescription schedule{.every_ms = reader.Number("every_ms", UINT64_MAX),
                               .next_in_ms = reader.Number("next_in_ms", UINT64_MAX),
                               .failures = reader.Number("failures", UINT64_MAX),
                               .last_error = reader.Text("last_error")};
  if (!reader.problem().empty()) {
    outer->Fail("has a schedule that " + reader.problem());
  }
  return schedule;
}

FaultDescriptions FaultsFromJson(ObjectReader& reader) {
  FaultDescriptions faults;
  for (const auto& [device, counts] : reader.Object("faults").items()) {
    if (!counts.is_object()) {
      reader.Fail("has 'faults' of a wrong type");
      continue;
    }
    for (const auto& [kind, count] : counts.items()) {
      if (!count.is_number_unsigned()) {
        reader.Fail("has 'faults' of a wrong type");
        continue;
      }
      faults[device][kind] = count.get<uint64_t>();
    }
  }
  return faults;
}

NetDescription NetFromJson(const Json& json, ObjectReader* outer) {
  ObjectReader reader(json);
  NetDescription net{.backend = reader.Text("backend"),
                     .mac = reader.Text("mac"),
                     .interface = reader.Text("interface"),
                     .isolated = reader.Boolean("isolated")};
  for (const Json& forward : reader.List("forwards")) {
    if (forward.is_string()) {
      net.forwards.push_back(forward.get<std::string>());
    }
  }
  if (!reader.problem().empty()) {
    outer->Fail("has a card that " + reader.problem());
  }
  return net;
}

}  // namespace

std::string_view MachineStateName(MachineState state) {
  switch (state) {
    case MachineState::kRunning:
      return "running";
    case MachineState::kPaused:
      return "paused";
    case MachineState::kStopping:
      return "stopping";
  }
  CHECK(false, "state {}", static_cast<int>(state));
}

std::string DescriptionToJson(const MachineDescription& description) {
  Json disks = Json::array();
  for (const DiskDescription& disk : description.disks) {
    disks.push_back(ToJson(disk));
  }
  Json nets = Json::array();
  for (const NetDescription& net : description.nets) {
    nets.push_back(ToJson(net));
  }
  return DumpJson(
      {{"name", description.name},
       {"pid", description.pid},
       {"state", MachineStateName(description.state)},
       {"cpus", description.cpus},
       {"memory_bytes", description.memory_bytes},
       {"memory_there_bytes", description.memory_there_bytes},
       {"uptime_ms", description.uptime_ms},
       {"process_start_ns", description.process_start_ns},
       {"restore_start_ns", description.restore_start_ns},
       {"first_entry_ns", description.first_entry_ns},
       {"disks", std::move(disks)},
       {"nets", std::move(nets)},
       {"store", description.store},
       {"store_key", description.store_key},
       {"schedule", ToJson(description.schedule)},
       {"faults", description.faults.empty() ? Json::object() : Json(description.faults)},
       {"version", description.version}});
}

Result<MachineDescription> DescriptionFromJson(std::string_view text) {
  const Json json = TRY(ParseUntrustedJson(text, kResponseBodyLimitBytes));
  ObjectReader reader(json);
  MachineDescription description;
  description.name = reader.Text("name");
  description.pid = static_cast<int64_t>(reader.Number("pid", INT64_MAX));
  description.cpus = static_cast<uint32_t>(reader.Number("cpus", UINT32_MAX));
  description.memory_bytes = reader.Number("memory_bytes", UINT64_MAX);
  description.memory_there_bytes = reader.Number("memory_there_bytes", UINT64_MAX);
  description.uptime_ms = reader.Number("uptime_ms", UINT64_MAX);
  description.process_start_ns = reader.Number("process_start_ns", UINT64_MAX);
  description.restore_start_ns = reader.Number("restore_start_ns", UINT64_MAX);
  description.first_entry_ns = reader.Number("first_entry_ns", UINT64_MAX);
  description.store = reader.Text("store");
  description.store_key = reader.Text("store_key");
  description.version = reader.Text("version");
  if (const auto state = ParseState(reader.Text("state"))) {
    description.state = *state;
  } else {
    reader.Fail("has an unknown 'state'");
  }
  for (const Json& disk : reader.List("disks")) {
    description.disks.push_back(DiskFromJson(disk, &reader));
  }
  for (const Json& net : reader.List("nets")) {
    description.nets.push_back(NetFromJson(net, &reader));
  }
  description.schedule = ScheduleFromJson(reader.Object("schedule"), &reader);
  description.faults = FaultsFromJson(reader);
  if (!reader.problem().empty()) {
    return Error::Make(ErrorCode::kCorrupt, "the machine's description {}", reader.problem());
  }
  return description;
}

std::string StopRequestToJson(const StopRequest& request) {
  return DumpJson({{"grace_seconds", request.grace_seconds}, {"force", request.force}});
}

Result<StopRequest> StopRequestFromJson(std::string_view text) {
  StopRequest request;
  if (text.empty()) {
    return request;
  }
  const Json json = TRY(ParseUntrustedJson(text, kRequestBodyLimitBytes));
  ObjectReader reader(json);
  if (reader.Has("grace_seconds")) {
    request.grace_seconds =
        static_cast<uint32_t>(reader.Number("grace_seconds", StopRequest::kMaxGraceSeconds));
  }
  if (reader.Has("force")) {
    request.force = reader.Boolean("force");
  }
  reader.RefuseOthers({"grace_seconds", "force"});
  if (!reader.problem().empty()) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the request {}: send {{\"grace_seconds\": 0 to {}, \"force\": true or "
                       "false}}, each optional",
                       reader.problem(), StopRequest::kMaxGraceSeconds);
  }
  return request;
}

std::string StateToJson(MachineState state) {
  return DumpJson({{"state", MachineStateName(state)}});
}

std::string ErrorToJson(std::string_view code, std::string_view message) {
  return DumpJson({{"code", code}, {"message", message}});
}

std::string ErrorToJson(const Error& error) {
  return ErrorToJson(CodeText(error.code()), error.message());
}

Error ErrorFromJson(int status, std::string_view text) {
  const Result<Json> json = ParseUntrustedJson(text, kResponseBodyLimitBytes);
  if (json.ok()) {
    ObjectReader reader(*json);
    const std::string code = reader.Text("code");
    const std::string message = reader.Text("message");
    if (reader.problem().empty()) {
      const auto found = std::find_if(kErrorCodes.begin(), kErrorCodes.end(),
                                      [&](ErrorCode known) { return CodeText(known) == code; });
      return Error::Make(found == kErrorCodes.end() ? ErrorCode::kIo : *found, "{}", message);
    }
  }
  return Error::Make(ErrorCode::kIo, "the machine answered with HTTP status {}", status);
}

}  // namespace pacsvisor
