// Debian's qemu-guest-agent in a Linux guest, spoken to by the socket of the agent port.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/guest/linux_guest.h"
#include "tests/unit/devices/console/socket_client.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

const std::string kAgent = std::string(PACSVISOR_GUEST_FILES) + "/agent";

// The agent on the port of its name; a writer that shows whether the file system is frozen.
constexpr char kJob[] = R"job(
for port in /sys/class/virtio-ports/*; do
  [ "$(cat $port/name)" = org.qemu.guest_agent.0 ] && device=/dev/${port##*/}
done
mkdir -p /run/fs; mount /dev/vdc /run/fs
export LD_LIBRARY_PATH=/run/job/agent/usr/lib/x86_64-linux-gnu:/run/job/agent/lib/x86_64-linux-gnu
/run/job/agent/usr/sbin/qemu-ga -m virtio-serial -p $device -t /tmp -f /tmp/qga.pid &
(n=0; until [ -e /run/stop ]; do
  n=$((n + 1)); echo $n >/run/fs/count; sync -f /run/fs/count; echo pacs-job wrote $n
  sleep 0.05
done; umount /run/fs; echo pacs-job umount $?) &
echo pacs-job agent $device
)job";

class AgentTest : public testing::Test {
 protected:
  AgentTest() {
    EXPECT_TRUE(std::filesystem::exists(kAgent)) << "run 'bash tests/guest/prepare.sh'";
    config_ = LinuxConfig(files_, kJob, 2, 256 * kMiB, {kAgent});
    config_.disks.push_back({.path = files_.MakeFileSystem("fs", 32 * kMiB), .serial = "fs"});
    config_.agent_enabled = true;
  }

  GuestFiles files_;
  MachineConfig config_;
};

// A conversation: one line of JSON each way.
class Agent {
 public:
  explicit Agent(const std::string& socket) : client_(socket) {
    EXPECT_TRUE(client_.connected());
    // What an earlier client left half said ends here; the answer's 0xff says where to begin.
    EXPECT_TRUE(client_.Write("\xff"));
    Send({{"execute", "guest-sync-delimited"}, {"arguments", {{"id", 4711}}}});
    while (true) {
      const std::string byte = client_.Read(1);
      if (byte.empty() || byte[0] == '\xff') {
        break;
      }
    }
    EXPECT_EQ(Receive(), 4711);
  }

  Json Ask(const std::string& command) {
    Send({{"execute", command}});
    return Receive();
  }

 private:
  void Send(const Json& request) { EXPECT_TRUE(client_.Write(request.dump() + "\n")); }
  Json Receive() {
    std::string line;
    for (std::string byte; (byte = client_.Read(1)) != "\n" && !byte.empty();) {
      line += byte;
    }
    const Json answer = Json::parse(line, nullptr, false);
    if (!answer.is_object() || !answer.contains("return")) {
      ADD_FAILURE() << "the agent's answer: '" << line << "'";
      return {};
    }
    return answer["return"];
  }

  console_test::SocketClient client_;
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
  Agent agent(socket);
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
    EXPECT_EQ(Agent(socket).Ask("guest-ping"), Json::object());
  }
}

}  // namespace
}  // namespace pacsvisor
