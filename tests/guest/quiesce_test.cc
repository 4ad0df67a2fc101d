// Snapshots by the program for which Debian's qemu-guest-agent holds a Linux's file systems still.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/guest/agent_client.h"
#include "tests/guest/guest_process.h"
#include "tests/guest/linux_guest.h"
#include "vmm/base/clock.h"
#include "vmm/store/store.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr uint64_t kNsPerSecond = 1'000'000'000;

// Writes without end, and says what time it is.
constexpr char kWriter[] = R"job(
mkdir -p /run/fs; mount /dev/vdc /run/fs
echo pacs-job agent $device
n=0; while true; do
  n=$((n + 1)); echo $n >>/run/fs/count; sync -f /run/fs/count; echo pacs-job wrote $n at $(date +%s)
  sleep 0.05
done
)job";

class QuiesceTest : public testing::Test {
 protected:
  void Configure(const std::string& job, bool agent_enabled = true, const std::string& more = "") {
    MachineConfig config = LinuxConfig(files_, job, 2, 256 * kMiB, {AgentFiles()});
    config.disks.push_back({.path = files_.MakeFileSystem("fs", 32 * kMiB), .serial = "fs"});
    config.agent_enabled = agent_enabled;
    Write(config, more);
  }
  void Write(const MachineConfig& config, const std::string& more = "") {
    std::ofstream(files_.Path("VM.toml"))
        << ConfigText(config) << "[store]\npath = \"" << files_.Path("store") << "\"\n"
        << more;
  }

  GuestProcess::Options Program(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), PACSVISOR_PROGRAM);
    return {.arguments = std::move(arguments),
            .environment = {{"PACSVISOR_RUNTIME_DIR", files_.Path("runtime")}},
            .error_log = files_.Path("errors")};
  }
  GuestProcess::Options RunGuest() const { return Program({"run", files_.Path("VM.toml")}); }
  HostResult Ask(const std::string& words) const {
    return AskHost("(PACSVISOR_RUNTIME_DIR=" + files_.Path("runtime") + " " + PACSVISOR_PROGRAM +
                   " " + words + " 2>>" + files_.Path("errors") + ")");
  }
  // What came of it.
  nlohmann::json Snapshot(const std::string& options) const {
    const HostResult result = Ask("snapshot --json " + options);
    EXPECT_EQ(result.status, 0) << result.output << Errors();
    const auto json = nlohmann::json::parse(result.output, nullptr, false);
    EXPECT_TRUE(json.is_object()) << result.output;
    return json.is_object() ? json.value("result", nlohmann::json::object())
                            : nlohmann::json::object();
  }
  std::string Errors() const {
    std::ifstream stream(files_.Path("errors"));
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  std::string AgentSocket(const std::string& name) const {
    return files_.Path("runtime/" + name + "/agent.sock");
  }

  // The disk of the snapshot itself, which nobody has used since.
  std::string DiskOf(const std::string& id, const std::string& space) const {
    const std::string path = files_.Path(space + ".of-snapshot");
    std::shared_ptr<StoreFiles> files = StoreFiles::OpenDirectory(files_.Path("store")).value();
    const std::unique_ptr<Store> store = Store::Open(std::move(files)).value();
    const auto snapshot = store->OpenSnapshot(store->Resolve(id).value()).value();
    const std::vector<StoredSpace>& spaces = snapshot->info().spaces;
    for (uint32_t i = 0; i < spaces.size(); ++i) {
      if (spaces[i].name == space) {
        std::vector<uint8_t> bytes(spaces[i].size_bytes);
        EXPECT_TRUE(snapshot->Read(i, BlockIndex(0), bytes).ok());
        // Bytes as characters.
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes.data()),
                   static_cast<std::streamsize>(bytes.size()));
      }
    }
    return path;
  }

  static void ExpectWrites(GuestProcess& guest) {
    for (int i = 0; i < 3 && !HasFailure(); ++i) {
      guest.Expect("pacs-job wrote");
    }
  }

  const GuestFiles files_;
};

TEST_F(QuiesceTest, HoldsFileSystemsThatAreWholeAndTheCopyOfItThaws) {
  Configure(std::string(kStartAgent) + kWriter);
  std::string id;
  uint64_t instant_ns = 0;
  {
    GuestProcess source(RunGuest());
    source.Expect("pacs-job wrote");
    EXPECT_EQ(AgentClient(AgentSocket("linux")).Ask("guest-ping"), nlohmann::json::object());
    const nlohmann::json crash = Snapshot("linux");
    EXPECT_EQ(crash.value("consistency", ""), "crash");
    instant_ns = RealtimeNs();
    const nlohmann::json result = Snapshot("linux --quiesce");
    ASSERT_EQ(result.value("consistency", ""), "quiesced") << result << Errors();
    EXPECT_THAT(result.at("warnings"), IsEmpty());
    id = result.at("id");
    // The source goes on, and its agent serves others.
    ExpectWrites(source);
    EXPECT_EQ(AgentClient(AgentSocket("linux")).Ask("guest-fsfreeze-status"), "thawed");
    ASSERT_FALSE(HasFailure()) << Errors();
    // Whole without its journal; the other one is not.
    const std::string disk = DiskOf(id, "disk2");
    const HostResult check = AskHost("e2fsck -fn " + disk);
    EXPECT_EQ(check.status, 0) << check.output;
    EXPECT_THAT(AskHost("dumpe2fs -h " + disk).output, Not(HasSubstr("needs_recovery")));
    EXPECT_THAT(AskHost("dumpe2fs -h " + DiskOf(crash.at("id"), "disk2")).output,
                HasSubstr("needs_recovery"));
    source.Kill();
  }
  // Far enough away for the guest's clock to be behind, unless it is told.
  constexpr uint64_t kAwaySeconds = 6;
  while (RealtimeNs() < instant_ns + kAwaySeconds * kNsPerSecond) {
    usleep(10'000);
  }
  GuestProcess clone(Program({"restore", id, "--store", files_.Path("store"), "--name", "clone",
                              "--directory", files_.Path("clone")}));
  ExpectWrites(clone);
  uint64_t behind_s = kAwaySeconds;
  while (behind_s >= kAwaySeconds / 2 && !HasFailure()) {
    const std::string line = clone.Expect("pacs-job wrote");
    const size_t at = line.rfind(" at ");
    const uint64_t now_s = RealtimeNs() / kNsPerSecond;
    const uint64_t guest_s =
        at == std::string::npos ? 0 : std::strtoull(line.c_str() + at + 4, nullptr, 10);
    behind_s = now_s - std::min(guest_s, now_s);
  }
  EXPECT_EQ(AgentClient(AgentSocket("clone")).Ask("guest-fsfreeze-status"), "thawed");
  EXPECT_EQ(Ask("stop clone").status, 0);
  EXPECT_EQ(clone.WaitForExit(), 0) << Errors();
}

TEST_F(QuiesceTest, AScheduleHoldsFileSystemsStillToo) {
  Configure(std::string(kStartAgent) + kWriter, true,
            "[schedule]\nevery = \"1s\"\nquiesce = true\n");
  GuestProcess guest(RunGuest());
  guest.Expect("pacs-job wrote");
  // The first ones may come before the agent speaks.
  std::string id;
  for (int i = 0; i < 600 && id.empty() && !HasFailure(); ++i) {
    guest.Expect("pacs-job wrote");
    const HostResult list = Ask("snapshots --json --store " + files_.Path("store"));
    const auto json = nlohmann::json::parse(list.output, nullptr, false);
    for (const auto& one : json.is_array() ? json : nlohmann::json::array()) {
      id = one.value("consistency", "") == "quiesced" ? one.value("id", "") : id;
    }
  }
  ASSERT_NE(id, "") << Errors();
  EXPECT_EQ(Ask("stop linux --force").status, 0);
  EXPECT_EQ(guest.WaitForExit(), 0) << Errors();
  const HostResult check = AskHost("e2fsck -fn " + DiskOf(id, "disk2"));
  EXPECT_EQ(check.status, 0) << check.output;
}

TEST_F(QuiesceTest, WithoutAPortTheSnapshotIsTakenAndTheGuestGoesOn) {
  Configure(kWriter, false);
  GuestProcess guest(RunGuest());
  guest.Expect("pacs-job wrote");
  const nlohmann::json result = Snapshot("linux --quiesce");
  EXPECT_EQ(result.value("consistency", ""), "crash");
  EXPECT_THAT(result.at("warnings").at(0), HasSubstr("add [agent] to its VM.toml"));
  ExpectWrites(guest);
}

TEST_F(QuiesceTest, WithoutAnAgentTheSnapshotIsTakenAndTheGuestGoesOn) {
  Configure(kWriter);
  std::string id;
  {
    GuestProcess guest(RunGuest());
    guest.Expect("pacs-job wrote");
    const nlohmann::json result = Snapshot("linux --quiesce");
    EXPECT_EQ(result.value("consistency", ""), "crash");
    EXPECT_THAT(result.at("warnings").at(0), HasSubstr("no guest agent has its port open"));
    id = result.at("id");
    ExpectWrites(guest);
    guest.Kill();
  }
  GuestProcess again(Program({"restore", id, "--store", files_.Path("store"), "--discard"}));
  ExpectWrites(again);
}

// It is stopped, as a process that hangs: its port is open and what it is told is taken.
TEST_F(QuiesceTest, AgentThatHangsDelaysTheSnapshotByTheLimitAndTheGuestGoesOn) {
  Configure(std::string(kStartAgent) + "agent=$!\n" + R"job(
mkdir -p /run/fs
(until [ -e /run/fs/count ]; do sleep 0.05; done
kill -STOP $agent; echo pacs-job stopped) &
)job" + kWriter);
  std::string id;
  {
    GuestProcess guest(RunGuest());
    guest.Expect("pacs-job stopped");
    const nlohmann::json result = Snapshot("linux --quiesce --quiesce-timeout 300ms");
    EXPECT_EQ(result.value("consistency", ""), "crash");
    EXPECT_THAT(result.at("warnings").at(0), HasSubstr("does not answer in time"));
    id = result.at("id");
    ExpectWrites(guest);
    guest.Kill();
  }
  GuestProcess again(Program({"restore", id, "--store", files_.Path("store"), "--discard"}));
  ExpectWrites(again);
}

}  // namespace
}  // namespace pacsvisor
