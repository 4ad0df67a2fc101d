// Debian's qemu-guest-agent in a Linux guest, spoken to by the socket of the agent port.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/guest/agent_client.h"
#include "tests/guest/linux_guest.h"
#include "tests/unit/devices/console/socket_client.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

// A writer that shows whether the file system is frozen.
const std::string kJob = std::string(kStartAgent) + R"job(
mkdir -p /run/fs; mount /dev/vdc /run/fs
(n=0; until [ -e /run/stop ]; do
  n=$((n + 1)); echo $n >/run/fs/count; sync -f /run/fs/count; echo pacs-job wrote $n
  sleep 0.05
done; umount /run/fs; echo pacs-job umount $?) &
echo pacs-job agent $device
)job";

class AgentTest : public testing::Test {
 protected:
  AgentTest() {
    config_ = LinuxConfig(files_, kJob, 2, 256 * kMiB, {AgentFiles()});
    config_.disks.push_back({.path = files_.MakeFileSystem("fs", 32 * kMiB), .serial = "fs"});
    config_.agent_enabled = true;
  }

  GuestFiles files_;
  MachineConfig config_;
};

bool Supports(const Json& info, const std::string& command) {
  for (const Json& one : info["supported_commands"]) {
    if (one["name"] == command) {
      return one["enabled"];
    }
  }
  return false;
}

TEST_F(AgentTest, FreezesTheFileSystemsAndThawsThem) {
  const std::string socket = files_.Path("agent.sock");
  GuestMachine guest(config_, socket);
  guest.Start();
  EXPECT_THAT(guest.Expect("pacs-job agent"), testing::HasSubstr("/dev/vport"));
  guest.Expect("pacs-job wrote");
  AgentClient agent(socket);
  EXPECT_EQ(agent.Ask("guest-ping"), Json::object());
  const Json info = agent.Ask("guest-info");
  EXPECT_TRUE(info["version"].is_string());
  ASSERT_TRUE(Supports(info, "guest-fsfreeze-freeze"));
  EXPECT_EQ(agent.Ask("guest-fsfreeze-status"), "thawed");

  EXPECT_GE(agent.Ask("guest-fsfreeze-freeze"), 2) << "root and fs";
  EXPECT_EQ(agent.Ask("guest-fsfreeze-status"), "frozen");
  // A frozen file system is whole on its disk: it needs no journal.
  const std::string image = config_.disks.back().path;
  const std::string frozen = files_.Path("frozen.raw");
  RunOnHost("cp --sparse=always " + image + " " + frozen);
  const HostResult check = AskHost("e2fsck -fn " + frozen);
  EXPECT_EQ(check.status, 0) << check.output;
  EXPECT_THAT(AskHost("dumpe2fs -h " + frozen).output,
              testing::Not(testing::HasSubstr("needs_recovery")));
  // And nothing changes it while it is frozen.
  EXPECT_EQ(agent.Ask("guest-ping"), Json::object());
  EXPECT_EQ(AskHost("cmp " + image + " " + frozen).output, "");

  EXPECT_GE(agent.Ask("guest-fsfreeze-thaw"), 2);
  EXPECT_EQ(agent.Ask("guest-fsfreeze-status"), "thawed");
  for (int i = 0; i < 3; ++i) {
    guest.Expect("pacs-job wrote");
  }
  guest.SendToShell("touch /run/stop");
  EXPECT_THAT(guest.Expect("pacs-job umount"), testing::EndsWith("umount 0"));
  guest.machine().PressPowerButton();
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
  ExpectSoundFileSystem(image);
}

TEST_F(AgentTest, AnswersOneClientAfterAnother) {
  const std::string socket = files_.Path("agent.sock");
  GuestMachine guest(config_, socket);
  guest.Start();
  guest.Expect("pacs-job agent");
  for (int i = 0; i < 5; ++i) {
    {
      // Leaves in the middle of a sentence.
      console_test::SocketClient rude(socket);
      ASSERT_TRUE(rude.connected() && rude.Write(R"({"execute": "guest-)"));
    }
    EXPECT_EQ(AgentClient(socket).Ask("guest-ping"), Json::object());
  }
}

}  // namespace
}  // namespace pacsvisor
