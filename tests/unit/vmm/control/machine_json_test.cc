#include "vmm/control/machine_json.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/unit/vmm/control/fake_machine.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;

TEST(MachineJson, ADescriptionComesBackAsItWas) {
  FakeMachine machine;
  for (const MachineState state :
       {MachineState::kRunning, MachineState::kPaused, MachineState::kStopping}) {
    MachineDescription description = machine.Describe();
    description.state = state;
    const std::string text = DescriptionToJson(description);
    const Result<MachineDescription> read = DescriptionFromJson(text);
    ASSERT_TRUE(read.ok()) << read.error().message();
    EXPECT_EQ(DescriptionToJson(*read), text);
  }
}

TEST(MachineJson, APathThatIsNoUnicodeIsShownAllTheSame) {
  MachineDescription description;
  description.disks = {{.path = "/vm/\xff.raw"}};
  EXPECT_THAT(DescriptionToJson(description), HasSubstr("/vm/\xef\xbf\xbd.raw"));
}

// Each member of the description in turn: left out, and of every other type.
TEST(MachineJson, ADescriptionWithAnyMemberMissingOrWrongIsRefused) {
  const nlohmann::json whole =
      nlohmann::json::parse(DescriptionToJson(FakeMachine().Describe())).flatten();
  const nlohmann::json wrong_values = {nullptr, "x", -1, 1.5, true};
  for (const auto& [pointer, right_value] : whole.items()) {
    if (pointer.starts_with("/nets/0/forwards")) {
      continue;  // its elements that are no strings are left out
    }
    for (const nlohmann::json& wrong_value : wrong_values) {
      if (wrong_value.type() == right_value.type()) {
        continue;
      }
      nlohmann::json changed = whole;
      changed[pointer] = wrong_value;
      EXPECT_FALSE(DescriptionFromJson(changed.unflatten().dump()).ok())
          << pointer << " = " << wrong_value;
    }
    if (pointer.starts_with("/faults")) {
      continue;  // what never happened is left out
    }
    nlohmann::json shorter = whole;
    shorter.erase(pointer);
    EXPECT_FALSE(DescriptionFromJson(shorter.unflatten().dump()).ok()) << pointer;
  }
}

TEST(MachineJson, ADescriptionWithoutFaultsSaysSo) {
  const MachineDescription description;
  EXPECT_THAT(DescriptionToJson(description), HasSubstr("\"faults\":{}"));
}

TEST(MachineJson, AStopRequestComesBackAsItWas) {
  for (const StopRequest& request : {StopRequest{}, StopRequest{.grace_seconds = 0, .force = true},
                                     StopRequest{.grace_seconds = StopRequest::kMaxGraceSeconds}}) {
    const Result<StopRequest> read = StopRequestFromJson(StopRequestToJson(request));
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(read->grace_seconds, request.grace_seconds);
    EXPECT_EQ(read->force, request.force);
  }
}

TEST(MachineJson, AnErrorComesBackAsItWas) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kCancelled); ++code) {
    const Error error = Error::Make(static_cast<ErrorCode>(code), "say \"{}\"", code);
    const Error read = ErrorFromJson(500, ErrorToJson(error));
    EXPECT_EQ(read.code(), error.code());
    EXPECT_EQ(read.message(), error.message());
  }
}

TEST(MachineJson, AnErrorThatIsNoneIsItsHttpStatus) {
  for (const char* text : {"", "{}", "null", "{\"code\":1,\"message\":\"x\"}"}) {
    EXPECT_THAT(ErrorFromJson(502, text).message(), HasSubstr("HTTP status 502")) << text;
  }
}

}  // namespace
}  // namespace pacsvisor
