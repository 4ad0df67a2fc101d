// A running machine is rolled back in its place by the program: memory and two disks stay in step,
// whatever fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/guest/guest_process.h"
#include "tests/guest/linux_guest.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

// A number in memory, and as many lines on each of two disks, read back from there.
constexpr char kCounter[] = R"job(
mkdir -p /run/one /run/two; mount /dev/vdc /run/one; mount /dev/vdd /run/two
rm -f /run/one/count /run/two/count
n=0; while true; do
  n=$((n + 1)); echo $n >>/run/one/count; echo $n >>/run/two/count
  sync; echo 1 >/proc/sys/vm/drop_caches
  held="$(wc -l </run/one/count) $(tail -n 1 /run/one/count) $(wc -l </run/two/count) $(tail -n 1 /run/two/count)"
  [ "$held" = "$n $n $n $n" ] && echo pacs-job count $n || echo pacs-job mismatch $n: $held
done
)job";

class RollBackGuest : public testing::Test {
 protected:
  RollBackGuest() {
    config_ = LinuxConfig(files_, kCounter, 2, 256 * kMiB);
    for (const char* name : {"one", "two"}) {
      config_.disks.push_back({.path = files_.MakeFileSystem(name, 32 * kMiB), .serial = name});
    }
    Write("");
  }
  void Write(const std::string& more) const {
    std::ofstream(files_.Path("VM.toml"))
        << ConfigText(config_) << more << "[store]\npath = \"" << files_.Path("store") << "\"\n";
  }
  GuestProcess::Options Program(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), PACSVISOR_PROGRAM);
    return {.arguments = std::move(arguments),
            .environment = {{"PACSVISOR_RUNTIME_DIR", files_.Path("runtime")}},
            .error_log = files_.Path("errors")};
  }
  GuestProcess::Options RunGuest() const { return Program({"run", files_.Path("VM.toml")}); }
  GuestProcess::Options Restore(const std::string& id, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"restore", id, "--store", files_.Path("store")});
    return Program(more);
  }
  HostResult Ask(const std::string& words, const std::string& before = "") const {
    return AskHost(before + "PACSVISOR_RUNTIME_DIR=" + files_.Path("runtime") + " " +
                   PACSVISOR_PROGRAM + " " + words);
  }
  std::string Snapshot() const {
    const HostResult result = Ask("snapshot linux --json");
    EXPECT_EQ(result.status, 0) << result.output;
    const auto json = nlohmann::json::parse(result.output, nullptr, false);
    return json.is_object() && json.contains("result") ? json["result"].value("id", "") : "";
  }
  // The one that a roll-back to `id` kept; empty: none.
  std::string KeptBefore(const std::string& id) const {
    const HostResult list = Ask("snapshots --json --store " + files_.Path("store"));
    const auto json = nlohmann::json::parse(list.output, nullptr, false);
    for (const auto& one : json) {
      if (one.value("message", "") == "before roll-back to " + id.substr(0, 12)) {
        return one.value("id", "");
      }
    }
    return "";
  }
  static uint64_t Count(GuestProcess& guest) {
    const std::string line = guest.Expect("pacs-job count");
    const size_t at = line.rfind(' ');
    return at == std::string::npos ? 0 : std::strtoull(line.c_str() + at, nullptr, 10);
  }
  static uint64_t CountBeyond(GuestProcess& guest, uint64_t least) {
    uint64_t count = 0;
    while (count <= least && !HasFailure()) {
      count = Count(guest);
    }
    return count;
  }
  // It goes on, its disks in step with its memory.
  static void ExpectInStep(GuestProcess& guest) {
    for (int i = 0; i < 5 && !HasFailure(); ++i) {
      Count(guest);
    }
    EXPECT_THAT(guest.seen(), Not(HasSubstr("pacs-job mismatch")));
  }
  void ExpectNothingLeft() const {
    for (const auto& entry : fs::directory_iterator(files_.Path(""))) {
      EXPECT_THAT(entry.path().string(),
                  Not(testing::ContainsRegex("\\.(restored|replaced|swap)")));
    }
  }
  std::string Errors() const {
    std::ifstream stream(files_.Path("errors"));
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  const GuestFiles files_;
  MachineConfig config_;
};

TEST_F(RollBackGuest, RunningMachineIsReplacedAndWhatItWasIsKept) {
  GuestProcess old(RunGuest());
  const uint64_t before = Count(old);
  const std::string id = Snapshot();
  const uint64_t later = CountBeyond(old, before + 40);
  ASSERT_FALSE(HasFailure()) << Errors();
  std::string kept;
  {
    GuestProcess restored(Restore(id));
    EXPECT_LT(Count(restored), later) << Errors();
    ExpectInStep(restored);
    EXPECT_EQ(old.WaitForExit(), 0);
    ExpectNothingLeft();
    kept = KeptBefore(id);
    EXPECT_NE(kept, "");
    EXPECT_EQ(Ask("stop linux --force").status, 0);
    EXPECT_EQ(restored.WaitForExit(), 0) << Errors();
  }
  ASSERT_FALSE(HasFailure()) << Errors();
  // What was kept is the old machine, memory and all.
  GuestProcess again(Restore(kept, {"--discard"}));
  EXPECT_GE(Count(again), later) << Errors();
  ExpectInStep(again);
}

// No room for its disks; no room for its memory.
TEST_F(RollBackGuest, WhatFailsBeforeTheEndLeavesTheMachineRunning) {
  GuestProcess guest(RunGuest());
  Count(guest);
  const std::string id = Snapshot();
  for (const char* limit : {"ulimit -f 2000; ", "ulimit -v 250000; "}) {
    SCOPED_TRACE(limit);
    const HostResult result = Ask("restore " + id + " --store " + files_.Path("store"), limit);
    EXPECT_EQ(result.status, 1) << result.output;
    EXPECT_EQ(KeptBefore(id), "");
    ExpectNothingLeft();
    CountBeyond(guest, Count(guest) + 5);
    ExpectInStep(guest);
    EXPECT_THAT(Ask("ps").output, HasSubstr("running"));
  }
}

// Its recorded configuration wants a log in a folder that is gone: seen only when it takes over.
TEST_F(RollBackGuest, WhatFailsAfterTheEndLetsTheOldMachineGoOnFromWhereItWas) {
  fs::create_directory(files_.Path("logs"));
  Write("[console]\nlog = \"" + files_.Path("logs/console.log") + "\"\n");
  std::string id;
  {
    GuestProcess first(RunGuest());
    Count(first);
    id = Snapshot();
    EXPECT_EQ(Ask("stop linux --force").status, 0);
    first.WaitForExit();
  }
  fs::remove_all(files_.Path("logs"));
  Write("");
  GuestProcess old(RunGuest());
  const uint64_t reached = CountBeyond(old, 40);
  ASSERT_FALSE(HasFailure()) << Errors();
  GuestProcess again(Restore(id));
  EXPECT_GE(Count(again), reached) << Errors();
  ExpectInStep(again);
  EXPECT_THAT(Errors(), HasSubstr("not rolled back"));
  EXPECT_NE(KeptBefore(id), "");
  ExpectNothingLeft();
  EXPECT_EQ(Ask("stop linux --force").status, 0);
  EXPECT_EQ(again.WaitForExit(), 1) << "what was asked for did not come about";
}

TEST_F(RollBackGuest, TellsInJsonWhatRunsNow) {
  GuestProcess old(RunGuest());
  Count(old);
  const std::string id = Snapshot();
  GuestProcess restored(Restore(id, {"--json"}));
  const std::string line = restored.Expect("{");
  const auto json = nlohmann::json::parse(line, nullptr, false);
  ASSERT_TRUE(json.is_object()) << line << Errors();
  EXPECT_EQ(json.value("id", ""), id);
  EXPECT_EQ(json.value("name", ""), "linux");
  EXPECT_EQ(json.value("pid", 0), restored.pid());
  EXPECT_EQ(json.value("kept", ""), KeptBefore(id));
  EXPECT_TRUE(fs::is_socket(json.value("control_socket", ""))) << line;
  EXPECT_GT(json.value("started_ns", 0ul), 0u);
  EXPECT_EQ(Ask("stop linux --force").status, 0);
  EXPECT_EQ(restored.WaitForExit(), 0);
  EXPECT_THAT(restored.seen(), Not(HasSubstr("pacs-job"))) << "the console is not there";
}

}  // namespace
}  // namespace pacsvisor
