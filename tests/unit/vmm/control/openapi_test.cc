// Holds the server to vmm/control/openapi.json: the same paths and methods, and every answer by its
// schema.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/unit/vmm/control/fake_machine.h"
#include "vmm/control/control_api.h"
#include "vmm/control/machine_json.h"
#include "vmm/control/snapshot_json.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

const Json& Document() {
  static const Json document = Json::parse(ControlApi::OpenApi());
  return document;
}

const Json& Resolve(const Json& node) {
  const Json* current = &node;
  while (current->contains("$ref")) {
    current = &Document().at(Json::json_pointer(current->at("$ref").get<std::string>().substr(1)));
  }
  return *current;
}

// The part of JSON Schema that the document uses; a keyword beyond it is a failure of the test.
class SchemaChecker {
 public:
  // Empty when `value` is as `schema` says, otherwise what is not.
  static std::string Check(const Json& schema_or_reference, const Json& value,
                           const std::string& where = "$") {
    const Json& schema = Resolve(schema_or_reference);
    static const std::set<std::string> kKnown = {"type",     "additionalProperties",
                                                 "required", "properties",
                                                 "items",    "minimum",
                                                 "maximum",  "enum",
                                                 "default",  "description"};
    for (const auto& [keyword, unused] : schema.items()) {
      if (!kKnown.contains(keyword)) {
        return where + ": the test does not know '" + keyword + "'";
      }
    }
    if (!HasType(schema.at("type"), value)) {
      return where + ": " + value.dump() + " is no " + schema.at("type").get<std::string>();
    }
    if (schema.contains("enum") &&
        std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) {
      return where + ": " + value.dump() + " is not in the enum";
    }
    if (schema.contains("minimum") && value < schema["minimum"]) {
      return where + ": below the minimum";
    }
    if (schema.contains("maximum") && value > schema["maximum"]) {
      return where + ": above the maximum";
    }
    return value.is_object()  ? CheckMembers(schema, value, where)
           : value.is_array() ? CheckElements(schema, value, where)
                              : "";
  }

 private:
  static bool HasType(const std::string& type, const Json& value) {
    return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
           (type == "string" && value.is_string()) || (type == "boolean" && value.is_boolean()) ||
           (type == "integer" && value.is_number_integer());
  }

  static std::string CheckMembers(const Json& schema, const Json& value, const std::string& where) {
    for (const Json& name : schema.value("required", Json::array())) {
      if (!value.contains(name.get<std::string>())) {
        return where + ": " + name.dump() + " is missing";
      }
    }
    const Json properties = schema.value("properties", Json::object());
    for (const auto& [name, member] : value.items()) {
      if (!properties.contains(name)) {
        const Json others = schema.value("additionalProperties", Json(true));
        if (others.is_object()) {
          if (std::string problem = Check(others, member, where + "." + name); !problem.empty()) {
            return problem;
          }
        }
        if (others != Json(false)) {
          continue;
        }
        return where + ": '" + name + "' is not in the schema";
      }
      if (std::string problem = Check(properties[name], member, where + "." + name);
          !problem.empty()) {
        return problem;
      }
    }
    return "";
  }

  static std::string CheckElements(const Json& schema, const Json& value,
                                   const std::string& where) {
    for (const Json& element : value) {
      if (std::string problem = Check(schema.at("items"), element, where + "[]");
          !problem.empty()) {
        return problem;
      }
    }
    return "";
  }
};

std::string Upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), ::toupper);
  return text;
}

// A path as the document has it, with the fake machine's snapshot in place of {number}.
std::string Filled(std::string path) {
  static const std::string kPlaceholder = "{number}";
  const size_t at = path.find(kPlaceholder);
  return at == std::string::npos
             ? path
             : path.replace(at, kPlaceholder.size(), std::to_string(FakeMachine::kSnapshot));
}

// What the document says of an answer, held against it.
void ExpectAsDocumented(const Json& operation, const ApiResponse& answer) {
  const Json& responses = operation.at("responses");
  const std::string status = std::to_string(answer.status);
  const Json& response =
      Resolve(responses.contains(status) ? responses.at(status) : responses.at("default"));
  const Json body = Json::parse(answer.body, nullptr, false);
  ASSERT_FALSE(body.is_discarded()) << answer.body;
  EXPECT_EQ(SchemaChecker::Check(response.at("content").at("application/json").at("schema"), body),
            "")
      << answer.body;
}

TEST(OpenApi, HasExactlyTheRoutesOfTheServer) {
  std::set<std::string> documented;
  for (const auto& [path, methods] : Document().at("paths").items()) {
    for (const auto& [method, operation] : methods.items()) {
      documented.insert(Upper(method) + " " + path);
    }
  }
  std::set<std::string> served;
  for (const ControlApi::Route& route : ControlApi::Routes()) {
    served.insert(std::string(route.method) + " " + std::string(route.path));
  }
  EXPECT_EQ(documented, served);
}

TEST(OpenApi, EverySuccessIsAsDocumented) {
  FakeMachine machine;
  ControlApi api(machine);
  for (const auto& [path, methods] : Document().at("paths").items()) {
    for (const auto& [method, operation] : methods.items()) {
      const ApiResponse answer = api.Handle(Upper(method), Filled(path), "");
      EXPECT_TRUE(operation.at("responses").contains(std::to_string(answer.status)))
          << path << ' ' << answer.status;
      ExpectAsDocumented(operation, answer);
    }
  }
}

TEST(OpenApi, EveryFailureIsAsDocumented) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kCancelled); ++code) {
    FakeMachine machine;
    machine.FailWith(Error::Make(static_cast<ErrorCode>(code), "why"));
    ControlApi api(machine);
    for (const auto& [path, methods] : Document().at("paths").items()) {
      for (const auto& [method, operation] : methods.items()) {
        const ApiResponse answer = api.Handle(Upper(method), Filled(path), "");
        EXPECT_TRUE(answer.status >= 400 || path == "/v1/machine" || path == "/v1/openapi.json")
            << method << ' ' << path;
        ExpectAsDocumented(operation, answer);
      }
      ExpectAsDocumented(methods.front(), api.Handle("PATCH", Filled(path), ""));
    }
  }
}

TEST(OpenApi, EveryMachineStateIsAsDocumented) {
  FakeMachine machine;
  ControlApi api(machine);
  const Json& operation = Document().at("paths").at("/v1/machine").at("get");
  for (const char* action : {"pause", "resume", "stop"}) {
    api.Handle("PUT", std::string("/v1/machine/") + action, "");
    ExpectAsDocumented(operation, api.Handle("GET", "/v1/machine", ""));
  }
}

TEST(OpenApi, AStopIsTakenWhenTheSchemaTakesIt) {
  const Json& schema = Document()
                           .at("paths")
                           .at("/v1/machine/stop")
                           .at("put")
                           .at("requestBody")
                           .at("content")
                           .at("application/json")
                           .at("schema");
  for (const char* text :
       {"{}", R"({"grace_seconds":0})", R"({"grace_seconds":86400,"force":true})",
        R"({"force":false})", R"({"grace_seconds":86401})", R"({"grace_seconds":-1})",
        R"({"grace_seconds":"5"})", R"({"grace_seconds":1.5})", R"({"force":0})", R"({"grace":1})",
        "[]", "null", "true"}) {
    FakeMachine machine;
    ControlApi api(machine);
    const bool taken = api.Handle("PUT", "/v1/machine/stop", text).status == 202;
    EXPECT_EQ(taken, SchemaChecker::Check(schema, Json::parse(text)).empty()) << text;
  }
}

TEST(OpenApi, EveryPhaseOfASnapshotIsAsDocumented) {
  const Json& operation = Document().at("paths").at("/v1/snapshots/{number}").at("get");
  std::set<std::string> phases;
  for (const SnapshotPhase phase :
       {SnapshotPhase::kCopying, SnapshotPhase::kPausing, SnapshotPhase::kWriting,
        SnapshotPhase::kCommitting, SnapshotPhase::kDone, SnapshotPhase::kFailed}) {
    SnapshotProgress progress = FakeMachine::DoneSnapshot();
    progress.phase = phase;
    if (phase == SnapshotPhase::kFailed) {
      progress.error = Error::Make(ErrorCode::kNoSpace, "full");
    }
    if (phase != SnapshotPhase::kDone) {
      progress.result.reset();
    }
    FakeMachine machine;
    machine.SetProgress({progress});
    ExpectAsDocumented(operation, ControlApi(machine).Handle("GET", "/v1/snapshots/1", ""));
    phases.emplace(SnapshotPhaseName(phase));
  }
  EXPECT_EQ(Document()
                .at("components")
                .at("schemas")
                .at("SnapshotProgress")
                .at("properties")
                .at("phase")
                .at("enum")
                .get<std::set<std::string>>(),
            phases);
}

TEST(OpenApi, ASnapshotIsBegunWhenTheSchemaTakesIt) {
  const Json& schema = Document().at("components").at("schemas").at("SnapshotRequest");
  for (const char* text :
       {"{}", R"({"message":"before the upgrade","quiesce":true})", R"({"message":7})",
        R"({"pause_budget_us":1})", R"({"pause_budget_us":60000000})", R"({"pause_budget_us":0})",
        R"({"pause_budget_us":60000001})", R"({"pause_budget_us":-1})",
        R"({"pause_budget_us":0.5})", R"({"quiesce":1})", R"({"quiesce_timeout_ms":0})",
        R"({"quiesce_timeout_ms":600000})", R"({"quiesce_timeout_ms":600001})", R"({"budget":1})",
        "[]", "null", "true"}) {
    FakeMachine machine;
    ControlApi api(machine);
    const bool taken = api.Handle("POST", "/v1/snapshots", text).status == 202;
    EXPECT_EQ(taken, SchemaChecker::Check(schema, Json::parse(text)).empty()) << text;
    EXPECT_EQ(taken, !machine.calls().empty());
  }
}

TEST(OpenApi, TheDefaultsOfASnapshotAreTheServers) {
  const Json& properties =
      Document().at("components").at("schemas").at("SnapshotRequest").at("properties");
  const Json defaults = Json::parse(SnapshotRequestToJson({}));
  ASSERT_EQ(properties.size(), defaults.size());
  for (const auto& [name, value] : defaults.items()) {
    EXPECT_EQ(properties.at(name).at("default"), value) << name;
  }
}

TEST(OpenApi, TheDefaultOfTheGraceIsTheServers) {
  const Json& grace =
      Document().at("components").at("schemas").at("Stop").at("properties").at("grace_seconds");
  EXPECT_EQ(grace.at("default"), StopRequest::kDefaultGraceSeconds);
  EXPECT_EQ(grace.at("maximum"), StopRequest::kMaxGraceSeconds);
}

}  // namespace
}  // namespace pacsvisor
