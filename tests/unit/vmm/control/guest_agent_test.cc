#include "vmm/control/guest_agent.h"

#include <gmock/gmock.h>

#include <atomic>

#include "tests/unit/vmm/control/scripted_agent.h"
#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr uint32_t kPatientMs = 20'000;  // reached only by a failure
constexpr uint32_t kShortMs = 100;       // for an answer that does not come

const std::string kSync = "guest-sync-delimited";
const std::string kStatus = "guest-fsfreeze-status";
const std::string kFreeze = "guest-fsfreeze-freeze";
const std::string kThaw = "guest-fsfreeze-thaw";

class GuestAgentTest : public testing::Test {
 protected:
  Status Freeze(uint32_t timeout_ms = kPatientMs) {
    return agent_.Freeze(timeout_ms, [this] { return give_up_.load(); });
  }
  // The error of a freeze that does not come about; nothing is left frozen.
  Error FailToFreeze(ScriptedAgent& guest, uint32_t timeout_ms = kPatientMs) {
    const Status frozen = Freeze(timeout_ms);
    CHECK(!frozen.ok());
    EXPECT_THAT(guest.commands(), Contains(kThaw));
    EXPECT_FALSE(guest.frozen());
    EXPECT_FALSE(line_.open());
    return frozen.error();
  }

  std::atomic<bool> gone_ = false;
  std::atomic<bool> give_up_ = false;
  LocalLine line_;
  GuestAgent agent_{line_, [this] { return gone_.load(); }};
};

// As an agent does, but for one command.
ScriptedAgent::Script Says(const std::string& to, const std::string& answer) {
  return [to, answer](ScriptedAgent&, const std::string& command) {
    return command == to ? std::optional(answer) : std::nullopt;
  };
}
// Does it, and the answer is this.
ScriptedAgent::Script DoesAndSays(const std::string& to, const std::string& answer) {
  return [to, answer](ScriptedAgent& agent, const std::string& command) {
    if (command != to) {
      return std::optional<std::string>();
    }
    agent.Answer(command);
    return std::optional(answer);
  };
}

TEST_F(GuestAgentTest, FreezesAndThawsWithTheLineHeldBetween) {
  ScriptedAgent guest(line_);
  ASSERT_TRUE(Freeze().ok());
  EXPECT_TRUE(guest.frozen());
  EXPECT_TRUE(line_.open());
  ASSERT_TRUE(agent_.Thaw(kPatientMs).ok());
  EXPECT_FALSE(guest.frozen());
  EXPECT_FALSE(line_.open());
  EXPECT_THAT(guest.commands(),
              ElementsAre(kSync, kStatus, kFreeze, kStatus, kSync, kThaw, kStatus));
  EXPECT_TRUE(agent_.Thaw(kPatientMs).ok()) << "nothing is owed";
  EXPECT_EQ(guest.commands().size(), 7u);
}

TEST_F(GuestAgentTest, AgentThatIsNotThereIsNotWaitedFor) {
  const Status frozen = Freeze();
  ASSERT_FALSE(frozen.ok());
  EXPECT_EQ(frozen.error().code(), ErrorCode::kNotFound);
  EXPECT_TRUE(agent_.Thaw(kPatientMs).ok());
}

TEST_F(GuestAgentTest, AgentThatHangsIsLeftByTheLimit) {
  ScriptedAgent guest(line_, [](ScriptedAgent&, const std::string&) { return std::string(); });
  const Status frozen = Freeze(kShortMs);
  ASSERT_FALSE(frozen.ok());
  EXPECT_EQ(frozen.error().code(), ErrorCode::kTimeout);
  EXPECT_FALSE(agent_.owes_thaw()) << "it was not asked to freeze yet";
}

TEST_F(GuestAgentTest, FreezeThatIsNotConfirmedIsThawed) {
  ScriptedAgent guest(line_, DoesAndSays(kFreeze, ""));
  EXPECT_EQ(FailToFreeze(guest, kShortMs).code(), ErrorCode::kTimeout);
  EXPECT_FALSE(agent_.owes_thaw());
}

TEST_F(GuestAgentTest, HalfAFreezeIsThawed) {
  ScriptedAgent guest(
      line_, DoesAndSays(kFreeze, ScriptedAgent::Refusal("failed to freeze /data: \x1b[31mEIO")));
  const Error error = FailToFreeze(guest);
  EXPECT_THAT(error.message(), HasSubstr("refuses guest-fsfreeze-freeze"));
  EXPECT_THAT(error.message(), HasSubstr("failed to freeze /data: ?[31mEIO"));
}

TEST_F(GuestAgentTest, FreezeOfNothingIsNone) {
  ScriptedAgent guest(line_, Says(kFreeze, "{\"return\": 0}\n"));
  EXPECT_THAT(FailToFreeze(guest).message(), HasSubstr("froze no file system"));
}

TEST_F(GuestAgentTest, FreezeThatTheStatusDeniesIsNone) {
  ScriptedAgent guest(line_, Says(kStatus, "{\"return\": \"thawed\"}\n"));
  EXPECT_THAT(FailToFreeze(guest).message(), HasSubstr("does not confirm"));
}

TEST_F(GuestAgentTest, RubbishInsteadOfAnAnswerIsNoFreeze) {
  const std::string deep = std::string(100'000, '[') + "\n";
  for (const std::string& rubbish :
       {std::string("}{\n"), std::string("[1]\n"), std::string("\n"), std::string("{\"return\"\n"),
        std::string("{\"return\": true}\n"), std::string("{\"return\": 1e300}\n"),
        std::string("{\"return\": 1, \"return\": 1}\n"), std::string("\0\0\0\n", 4),
        std::string("{\"error\": 7}\n"), std::string("{\"error\": {\"desc\": []}}\n"), deep,
        std::string(1'000'000, ' ')}) {
    SCOPED_TRACE(rubbish.substr(0, 40));
    ScriptedAgent guest(line_, DoesAndSays(kFreeze, rubbish));
    EXPECT_FALSE(FailToFreeze(guest).message().empty());
    EXPECT_FALSE(agent_.owes_thaw());
  }
}

TEST_F(GuestAgentTest, WhatComesBeforeTheDelimiterIsNoMatter) {
  ScriptedAgent guest(line_, [](ScriptedAgent& agent, const std::string& command) {
    return command == kSync ? std::optional("{\"return\": {}}\n\xff{\"return\": 1}\n\xff}}}\n" +
                                            std::string(200'000, 'x') + "\xff" +
                                            std::string(70'000, 'y') + "\n" + agent.Answer(command))
                            : std::nullopt;
  });
  EXPECT_TRUE(Freeze().ok());
  EXPECT_TRUE(agent_.Thaw(kPatientMs).ok());
}

TEST_F(GuestAgentTest, FloodEndsWithTheLimit) {
  ScriptedAgent guest(line_, Says(kSync, std::string(100'000'000, 'x')));
  const Status frozen = Freeze(kShortMs);
  ASSERT_FALSE(frozen.ok());
  EXPECT_EQ(frozen.error().code(), ErrorCode::kTimeout);
}

TEST_F(GuestAgentTest, FileSystemsThatSomebodyElseFrozeAreLeftAlone) {
  ScriptedAgent guest(line_, Says(kStatus, "{\"return\": \"frozen\"}\n"));
  const Status frozen = Freeze();
  ASSERT_FALSE(frozen.ok());
  EXPECT_EQ(frozen.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(guest.commands(), ElementsAre(kSync, kStatus));
  EXPECT_TRUE(agent_.Thaw(kPatientMs).ok());
  EXPECT_THAT(guest.commands(), Not(Contains(kThaw)));
}

TEST_F(GuestAgentTest, ThawIsAskedForUntilItIsConfirmed) {
  int refusals = 3;
  ScriptedAgent guest(line_, [&refusals](ScriptedAgent&, const std::string& command) {
    return command == kThaw && refusals-- > 0 ? std::optional(ScriptedAgent::Refusal("not now"))
                                              : std::nullopt;
  });
  ASSERT_TRUE(Freeze().ok());
  EXPECT_TRUE(agent_.Thaw(kPatientMs).ok());
  EXPECT_FALSE(guest.frozen());
}

TEST_F(GuestAgentTest, ThawThatNeverComesIsNamedAndStaysOwed) {
  std::atomic<bool> obeys = false;
  ScriptedAgent guest(line_, [&obeys](ScriptedAgent&, const std::string& command) {
    return command == kThaw && !obeys ? std::optional(ScriptedAgent::Refusal("never"))
                                      : std::nullopt;
  });
  ASSERT_TRUE(Freeze().ok());
  const Status thawed = agent_.Thaw(20 * kShortMs);
  ASSERT_FALSE(thawed.ok());
  EXPECT_THAT(thawed.error().message(), HasSubstr("may be frozen still"));
  EXPECT_THAT(thawed.error().message(), HasSubstr("'never'"));
  EXPECT_TRUE(agent_.owes_thaw());
  // The next freeze begins with it.
  obeys = true;
  ASSERT_TRUE(Freeze().ok());
  EXPECT_TRUE(agent_.Thaw(kPatientMs).ok());
  EXPECT_FALSE(guest.frozen());
}

// It is there for an agent that wakes up when nobody waits any more.
TEST_F(GuestAgentTest, ThawIsSentToAnAgentThatDoesNotAnswer) {
  ScriptedAgent guest(line_, DoesAndSays(kSync, ""));
  agent_.OweThaw();
  EXPECT_FALSE(agent_.Thaw(kShortMs).ok());
  EXPECT_THAT(guest.commands(), Contains(kThaw));
}

TEST_F(GuestAgentTest, NobodyWaitsForAGuestThatIsGone) {
  ScriptedAgent guest(line_, Says(kSync, ""));
  gone_ = true;
  EXPECT_EQ(Freeze().error().code(), ErrorCode::kCancelled);
  agent_.OweThaw();
  EXPECT_FALSE(agent_.Thaw(kPatientMs).ok());
}

TEST_F(GuestAgentTest, FreezeIsCalledOff) {
  ScriptedAgent guest(line_, [this](ScriptedAgent&, const std::string& command) {
    give_up_ = command == kFreeze;
    return command == kFreeze ? std::optional(std::string()) : std::nullopt;
  });
  EXPECT_EQ(FailToFreeze(guest).code(), ErrorCode::kCancelled);
}

TEST_F(GuestAgentTest, SetsTheTimeOfTheHost) {
  ScriptedAgent guest(line_);
  const auto before_ns = static_cast<int64_t>(RealtimeNs());
  ASSERT_TRUE(agent_.SetTime(kPatientMs, [] { return false; }).ok());
  EXPECT_GE(guest.time_ns(), before_ns);
  EXPECT_LE(guest.time_ns(), static_cast<int64_t>(RealtimeNs()));
  EXPECT_FALSE(line_.open());
  EXPECT_THAT(guest.commands(), ElementsAre(kSync, "guest-set-time"));
}

}  // namespace
}  // namespace pacsvisor
