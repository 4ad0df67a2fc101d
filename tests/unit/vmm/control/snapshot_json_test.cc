#include "vmm/control/snapshot_json.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/unit/vmm/control/fake_machine.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;

SnapshotProgress FailedSnapshot() {
  return {.number = 7,
          .phase = SnapshotPhase::kFailed,
          .bytes_done = 1,
          .bytes_total = 2,
          .error = Error::Make(ErrorCode::kNoSpace, "the store's disk is full")};
}

TEST(SnapshotJson, ARequestComesBackAsItWas) {
  for (const SnapshotRequest& request :
       {SnapshotRequest{},
        SnapshotRequest{.message = "vor dem \"Umbau\": \xc3\xa4",
        .pause_budget_us = SnapshotRequest::kMaxPauseBudgetUs,
        .quiesce = true,
        .quiesce_timeout_ms = 0},
        SnapshotRequest{.message = std::string(SnapshotRequest::kMaxMessageBytes, 'x'),
        .pause_budget_us = SnapshotRequest::kMinPauseBudgetUs}}) {
    const Result<SnapshotRequest> read = SnapshotRequestFromJson(SnapshotRequestToJson(request));
    ASSERT_TRUE(read.ok()) << read.error().message();
    EXPECT_EQ(read->message, request.message);
    EXPECT_EQ(read->pause_budget_us, request.pause_budget_us);
    EXPECT_EQ(read->quiesce, request.quiesce);
    EXPECT_EQ(read->quiesce_timeout_ms, request.quiesce_timeout_ms);
  }
}

TEST(SnapshotJson, AMessageThatIsTooLongOrNoTextIsRefused) {
  for (const std::string& message :
       {std::string(SnapshotRequest::kMaxMessageBytes + 1, 'x'), std::string("a\nb"),
        std::string("\x1b[31m"), std::string("\x7f"), std::string("\0", 1)}) {
    const Result<SnapshotRequest> read =
        SnapshotRequestFromJson(nlohmann::json{{"message", message}}.dump());
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(read.error().message(), HasSubstr("the message h"));
  }
  EXPECT_FALSE(SnapshotRequestFromJson("{\"message\":\"\xff\"}").ok());
}

TEST(SnapshotJson, ProgressComesBackAsItWas) {
  for (const SnapshotProgress& progress : {FakeMachine::DoneSnapshot(), FailedSnapshot(),
                                           SnapshotProgress{.number = UINT64_MAX,
                                           .phase = SnapshotPhase::kPausing,
                                           .bytes_done = 5,
                                           .bytes_total = UINT64_MAX}}) {
    const std::string text = SnapshotProgressToJson(progress);
    const Result<SnapshotProgress> read = SnapshotProgressFromJson(text);
    ASSERT_TRUE(read.ok()) << read.error().message();
    EXPECT_EQ(SnapshotProgressToJson(*read), text);
  }
}

// Each member in turn: left out, and of every other type.
TEST(SnapshotJson, ProgressWithAnyMemberMissingOrWrongIsRefused) {
  SnapshotProgress done = FakeMachine::DoneSnapshot();
  done.result->warnings = {"not quiesced"};
  const nlohmann::json whole = nlohmann::json::parse(SnapshotProgressToJson(done)).flatten();
  const nlohmann::json wrong_values = {nullptr, "x", -1, 1.5, true};
  for (const auto& [pointer, right_value] : whole.items()) {
    for (const nlohmann::json& wrong_value : wrong_values) {
      if (wrong_value.type() == right_value.type()) {
        continue;
      }
      nlohmann::json changed = whole;
      changed[pointer] = wrong_value;
      EXPECT_FALSE(SnapshotProgressFromJson(changed.unflatten().dump()).ok())
          << pointer << " = " << wrong_value;
    }
    if (pointer.starts_with("/result/figures")) {
      continue;  // what was not measured is left out
    }
    nlohmann::json shorter = whole;
    shorter.erase(pointer);
    EXPECT_FALSE(SnapshotProgressFromJson(shorter.unflatten().dump()).ok()) << pointer;
  }
}

TEST(SnapshotJson, WarningsComeBackAsTheyWere) {
  SnapshotProgress done = FakeMachine::DoneSnapshot();
  done.result->warnings = {"not quiesced: \xc3\xa4", "frozen still"};
  EXPECT_EQ(SnapshotProgressFromJson(SnapshotProgressToJson(done))->result->warnings,
            done.result->warnings);
}

TEST(SnapshotJson, AnEndWithoutItsOutcomeIsRefused) {
  for (const char* text :
       {R"({"number":1,"phase":"done","bytes_done":0,"bytes_total":0})",
        R"({"number":1,"phase":"failed","bytes_done":0,"bytes_total":0})",
        R"({"number":1,"phase":"failed","bytes_done":0,"bytes_total":0,"error":"x"})"}) {
    EXPECT_FALSE(SnapshotProgressFromJson(text).ok()) << text;
  }
}

TEST(SnapshotJson, AnIdIs64HexDigits) {
  for (const std::string& id : {std::string(), std::string(63, 'a'), std::string(65, 'a'),
                                std::string(64, 'A'), std::string(64, 'g')}) {
    SnapshotProgress progress = FakeMachine::DoneSnapshot();
    progress.result->id = id;
    EXPECT_FALSE(SnapshotProgressFromJson(SnapshotProgressToJson(progress)).ok()) << id;
  }
  SnapshotProgress first = FakeMachine::DoneSnapshot();
  first.result->parent = "";
  EXPECT_TRUE(SnapshotProgressFromJson(SnapshotProgressToJson(first)).ok());
}

TEST(SnapshotJson, ANumberComesBackAsItWas) {
  EXPECT_EQ(SnapshotNumberFromJson(SnapshotNumberToJson(42)).value(), 42u);
  for (const char* text : {"", "{}", "7", R"({"number":-1})", R"({"number":"1"})"}) {
    EXPECT_FALSE(SnapshotNumberFromJson(text).ok()) << text;
  }
}

}  // namespace
}  // namespace pacsvisor
