// Disks that are fetched from their snapshot while the guest uses them, by the program as its user
// sees it: killed in the middle, snapshotted in the middle, without their store.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/guest/guest_process.h"
#include "tests/guest/linux_guest.h"
#include "vmm/base/unique_fd.h"
#include "vmm/store/lease.h"
#include "vmm/store/store_files.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr uint64_t kDataBytes = 192 * kMiB;  // of noise: it takes a while to come

// The sum of a whole disk, read anew each time, and a number that only memory knows.
constexpr char kSumJob[] = R"job(
n=0; while true; do
  n=$((n + 1)); echo 1 >/proc/sys/vm/drop_caches
  sum=$(sha256sum /dev/vdc | cut -d " " -f 1); echo "pacs-job pass $n sum $sum"
done
)job";

class LazyDisk : public testing::Test {
 protected:
  // A guest that is snapshotted, and is no more.
  LazyDisk() {
    MachineConfig config = LinuxConfig(files_, kSumJob, 2, 256 * kMiB);
    config.disks.push_back({.path = MakeNoise(), .serial = "data"});
    fs::create_directory(files_.Path("logs"));
    std::ofstream(files_.Path("VM.toml"))
        << ConfigText(config) << "[[net]]\nbackend = \"user\"\n[console]\nlog = \""
        << files_.Path("logs/console.log") << "\"\n[store]\npath = \"" << files_.Path("store")
        << "\"\n";
    sum_ = SumOf(config.disks.back().path);
    GuestProcess guest(Program({"run", files_.Path("VM.toml")}));
    EXPECT_THAT(guest.Expect("pacs-job pass"), HasSubstr(sum_));
    id_ = Snapshot("linux");
  }

  std::string MakeNoise() const {
    const std::string path = files_.Path("data.raw");
    std::ofstream file(path, std::ios::binary);
    std::mt19937_64 random(7);
    std::vector<uint64_t> words(kMiB / sizeof(uint64_t));
    for (uint64_t at = 0; at < kDataBytes; at += kMiB) {
      std::generate(words.begin(), words.end(), std::ref(random));
      file.write(reinterpret_cast<const char*>(words.data()), kMiB);  // words as characters
    }
    return path;
  }
  static std::string SumOf(const std::string& path) {
    return AskHost("sha256sum '" + path + "'").output.substr(0, 64);
  }

  GuestProcess::Options Program(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), PACSVISOR_PROGRAM);
    return {.arguments = std::move(arguments),
            .environment = {{"PACSVISOR_RUNTIME_DIR", files_.Path("runtime")}},
            .error_log = files_.Path("errors")};
  }
  GuestProcess::Options Clone(const std::string& id, const std::string& name,
                              std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"restore", id, "--store", files_.Path("store"), "--name", name,
                               "--directory", files_.Path(name)});
    return Program(more);
  }
  HostResult Ask(const std::string& words) const {
    return AskHost("PACSVISOR_RUNTIME_DIR=" + files_.Path("runtime") + " " + PACSVISOR_PROGRAM +
                   " " + words);
  }
  nlohmann::json AskJson(const std::string& words) const {
    const HostResult result = Ask(words + " --json");
    EXPECT_EQ(result.status, 0) << result.output << Errors();
    return nlohmann::json::parse(result.output, nullptr, false);
  }
  std::string Snapshot(const std::string& machine) const {
    return AskJson("snapshot " + machine).at("result").at("id");
  }
  // Why snapshots are held for disks.
  std::vector<std::string> Holds() const {
    std::vector<std::string> reasons;
    for (const auto& hold : AskJson("hold --list --store " + files_.Path("store"))) {
      const std::string reason = hold.at("reason");
      if (reason.find("is fetched from it") != reason.npos) {
        reasons.push_back(reason);
      }
    }
    return reasons;
  }
  // What `ps` says of the large disk of a machine whose guest runs.
  nlohmann::json Data(const std::string& name) const {
    while (!HasFatalFailure()) {
      for (const auto& machine : AskJson("ps")) {
        if (machine.value("name", "") == name && machine.value("first_entry_ns", 0ul) != 0) {
          return machine.at("disks").at(2);
        }
      }
    }
    return {};
  }
  void ExpectUnderWay(const std::string& name) const {
    const nlohmann::json data = Data(name);
    EXPECT_EQ(data.at("size_bytes"), kDataBytes);
    EXPECT_LT(data.at("there_bytes"), kDataBytes) << "it came sooner than this test can look";
  }
  void AwaitWhole(const std::string& name) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (Data(name).at("there_bytes") != kDataBytes &&
           std::chrono::steady_clock::now() < deadline) {
    }
    while (!Holds().empty() && std::chrono::steady_clock::now() < deadline) {
    }
    EXPECT_THAT(Holds(), IsEmpty()) << Errors();
  }
  // Whoever runs has all that it needs, and reads the store no more.
  void AwaitNoReader() const {
    const auto files = StoreFiles::OpenDirectory(files_.Path("store")).value();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!LiveLeases(*files)->empty() && std::chrono::steady_clock::now() < deadline) {
    }
    EXPECT_THAT(LiveLeases(*files).value(), IsEmpty());
  }
  void ExpectSum(GuestProcess& guest) const {
    EXPECT_THAT(guest.Expect("pacs-job pass"), HasSubstr(sum_)) << Errors();
  }
  void Stop(GuestProcess& guest, const std::string& name) const {
    EXPECT_EQ(Ask("stop " + name + " --force").status, 0);
    EXPECT_EQ(guest.WaitForExit(), 0) << Errors();
  }
  // The image alone is the disk.
  void ExpectWhole(const std::string& name) const {
    EXPECT_FALSE(fs::exists(files_.Path(name + "/disk2.raw.layers")));
    EXPECT_EQ(SumOf(files_.Path(name + "/disk2.raw")), sum_);
  }
  std::string Errors() const {
    std::ifstream stream(files_.Path("errors"));
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  const GuestFiles files_;
  std::string sum_;
  std::string id_;
};

TEST_F(LazyDisk, KilledInTheMiddleItGoesOnWhenItRunsAgain) {
  {
    GuestProcess copy(Clone(id_, "copy"));
    ExpectUnderWay("copy");
    copy.Kill();
  }
  const nlohmann::json info = AskJson("disk info " + files_.Path("copy/disk2.raw"));
  EXPECT_THAT(info.at("source").get<std::string>(), HasSubstr("disk2 of snapshot " + id_));
  EXPECT_THAT(Holds(), testing::Contains(HasSubstr("disk2.raw' of machine copy is fetched")));
  // A machine of its own from now on.
  GuestProcess again(Program({"run", files_.Path("copy/VM.toml")}));
  ExpectSum(again);
  AwaitWhole("copy");
  ExpectSum(again);
  Stop(again, "copy");
  ExpectWhole("copy");
  EXPECT_THAT(Errors(), Not(HasSubstr("system call"))) << "a violation of its filter";
}

TEST_F(LazyDisk, StoppedInTheMiddleItGoesOnWhenItRunsAgain) {
  {
    GuestProcess copy(Clone(id_, "copy"));
    ExpectUnderWay("copy");
    Stop(copy, "copy");
  }
  EXPECT_THAT(Holds(), Not(IsEmpty()));
  GuestProcess again(Program({"run", files_.Path("copy/VM.toml")}));
  AwaitWhole("copy");
  ExpectSum(again);
  Stop(again, "copy");
  ExpectWhole("copy");
}

TEST_F(LazyDisk, ASnapshotMeanwhileIsWholeAndIncremental) {
  std::string early;
  {
    GuestProcess copy(Clone(id_, "copy"));
    ExpectUnderWay("copy");
    const nlohmann::json taken = AskJson("snapshot copy").at("result");
    ExpectUnderWay("copy");
    early = taken.at("id");
    EXPECT_EQ(taken.at("parent"), id_);
    EXPECT_LT(taken.at("figures").at("stored_bytes"), kDataBytes / 8);
    copy.Kill();
  }
  // Nobody is going to run it, which is for its user to say.
  const std::string gone = "hold --release-gone --store " + files_.Path("store");
  EXPECT_EQ(AskJson(gone).at("released"), 0);
  fs::remove_all(files_.Path("copy"));
  EXPECT_THAT(Holds(), Not(IsEmpty()));
  EXPECT_GE(AskJson(gone).at("released"), 1);
  EXPECT_THAT(Holds(), IsEmpty());
  GuestProcess second(Clone(early, "second", {"--eager"}));
  EXPECT_EQ(Data("second").at("there_bytes"), kDataBytes);
  AwaitNoReader();
  ExpectSum(second);
  Stop(second, "second");
  ExpectWhole("second");
}

TEST_F(LazyDisk, WithoutItsStoreItIsRefusedAndFoundWhereThatWent) {
  {
    GuestProcess copy(Clone(id_, "copy"));
    ExpectUnderWay("copy");
    copy.Kill();
  }
  const std::string moved = files_.Path("moved");
  fs::rename(files_.Path("store"), moved);
  {
    GuestProcess lost(Program({"run", files_.Path("copy/VM.toml")}));
    EXPECT_EQ(lost.WaitForExit(), 1);
    EXPECT_THAT(Errors(), HasSubstr("is not whole: blocks of it are still in disk2 of snapshot"));
    EXPECT_THAT(Errors(), HasSubstr("[store] path"));
  }
  EXPECT_EQ(Ask("disk import " + files_.Path("copy/disk2.raw") + " " + files_.Path("x.raw")).status,
            1);
  const HostResult edited = AskHost("sed -i 's|" + files_.Path("store") + "|" + moved + "|' " +
                                    files_.Path("copy/VM.toml"));
  ASSERT_EQ(edited.status, 0) << edited.output;
  GuestProcess found(Program({"run", files_.Path("copy/VM.toml")}));
  ExpectSum(found);
  Stop(found, "copy");
}

// Beside the old one: its port is somebody else's, which shows when it is confined already.
TEST_F(LazyDisk, NothingIsLeftOfACloneThatDoesNotStart) {
  const UniqueFd port(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  // The sockets API's own way to pass an address.
  ASSERT_EQ(bind(port.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(port.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  ASSERT_EQ(listen(port.get(), 1), 0);
  const std::string forward = "127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + ":22";
  for (const char* eager : {"", " --eager"}) {
    const HostResult failed =
        Ask("restore " + id_ + " --store " + files_.Path("store") + " --name copy --directory " +
            files_.Path("copy") + " --forward " + forward + eager);
    EXPECT_EQ(failed.status, 1) << failed.output;
    EXPECT_THAT(failed.output, Not(HasSubstr("system call"))) << "a violation of its filter";
    for (const auto& entry : fs::directory_iterator(files_.Path("copy"))) {
      EXPECT_EQ(entry.path().filename(), "VM.toml") << failed.output;
    }
    EXPECT_THAT(Holds(), IsEmpty()) << failed.output;
  }
  // And another port is all that it takes.
  GuestProcess copy(Clone(id_, "copy"));
  ExpectSum(copy);
}

// In place, of a machine that does not run: what fails after the exchange puts the old disks back.
TEST_F(LazyDisk, OldDisksComeBackWhenTheRestoredMachineDoesNotStart) {
  {
    std::fstream data(files_.Path("data.raw"), std::ios::in | std::ios::out | std::ios::binary);
    data << "written since";
  }
  const std::string now = SumOf(files_.Path("data.raw"));
  ASSERT_NE(now, sum_);
  // Its console's log has no place: seen when the disks have theirs.
  fs::remove_all(files_.Path("logs"));
  const HostResult failed = Ask("restore " + id_ + " --store " + files_.Path("store"));
  EXPECT_EQ(failed.status, 1) << failed.output;
  EXPECT_EQ(SumOf(files_.Path("data.raw")), now) << failed.output;
  for (const auto& entry : fs::directory_iterator(files_.Path(""))) {
    EXPECT_THAT(entry.path().string(), Not(testing::ContainsRegex("\\.(restored|replaced|swap)")));
  }
  EXPECT_FALSE(fs::exists(files_.Path("data.raw.layers/map")));
  EXPECT_THAT(Holds(), IsEmpty()) << failed.output;
  // And with nothing in its way it goes back.
  fs::create_directory(files_.Path("logs"));
  GuestProcess restored(Program({"restore", id_, "--store", files_.Path("store")}));
  ExpectSum(restored);
  Stop(restored, "linux");
}

// Twice, the second time while the disks of the first are under way.
TEST_F(LazyDisk, RolledBackAgainAtOnceEachIsWhole) {
  GuestProcess first(Program({"restore", id_, "--store", files_.Path("store"), "--discard"}));
  ExpectUnderWay("linux");
  GuestProcess second(Program({"restore", id_, "--store", files_.Path("store")}));
  EXPECT_EQ(first.WaitForExit(), 0) << Errors();
  ExpectSum(second);
  AwaitWhole("linux");
  AwaitNoReader();
  ExpectSum(second);
  Stop(second, "linux");
  EXPECT_EQ(SumOf(files_.Path("data.raw")), sum_);
  EXPECT_FALSE(fs::exists(files_.Path("data.raw.layers")));
}

}  // namespace
}  // namespace pacsvisor
