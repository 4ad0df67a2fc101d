// A machine that takes snapshots by itself, as its [schedule] says, and removes those that are too
// many: its own, and no others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/guest/guest_process.h"
#include "tests/guest/linux_guest.h"

namespace pacsvisor {
namespace {

TEST(ScheduledGuest, KeepsWhatItsRulesSayAndWhatWasTakenByHand) {
  const GuestFiles files;
  const MachineConfig config =
      LinuxConfig(files, "while true; do sleep 1; echo pacs-job tick; done\n", 1, 128 * kMiB);
  std::ofstream(files.Path("VM.toml"))
      << ConfigText(config) << "[store]\npath = \"" << files.Path("store")
      << "\"\n[schedule]\nevery = \"1s\"\nkeep = { last = 2 }\n";
  const auto ask = [&](const std::string& words) {
    return AskHost("PACSVISOR_RUNTIME_DIR=" + files.Path("runtime") + " " + PACSVISOR_PROGRAM +
                   " " + words);
  };
  const std::string removed = "older snapshots of the schedule are removed";
  std::string by_hand;
  {
    GuestProcess guest({.arguments = {PACSVISOR_PROGRAM, "run", files.Path("VM.toml")},
                        .environment = {{"PACSVISOR_RUNTIME_DIR", files.Path("runtime")}},
                        .error_log = files.Path("errors")});
    guest.Expect("pacs-job tick");
    HostResult taken;
    for (int attempt = 0; attempt < 300 && by_hand.empty(); ++attempt) {
      guest.Expect("pacs-job tick");
      taken = ask("snapshot linux --json --message 'by hand'");  // busy while one is being taken
      const auto json = nlohmann::json::parse(taken.output, nullptr, false);
      by_hand = taken.status == 0 ? json["result"].value("id", "") : "";
    }
    ASSERT_FALSE(by_hand.empty()) << taken.output;
    // The first prune that removes one, and two more after the one by hand.
    for (int tick = 0; tick < 300; ++tick) {
      std::ifstream log(files.Path("errors"));
      const std::string text(std::istreambuf_iterator<char>(log), {});
      size_t count = 0;
      for (size_t at = text.find(removed); at != std::string::npos;
           at = text.find(removed, at + 1)) {
        ++count;
      }
      if (count >= 3) {
        break;
      }
      guest.Expect("pacs-job tick");
    }
    const auto machines = nlohmann::json::parse(ask("ps --json").output, nullptr, false);
    ASSERT_EQ(machines.size(), 1u) << machines;
    EXPECT_EQ(machines[0]["schedule"]["every_ms"], 1000);
    EXPECT_EQ(machines[0]["schedule"]["failures"], 0);
    EXPECT_EQ(ask("stop linux --force").status, 0);
    EXPECT_EQ(guest.WaitForExit(), 0);
  }
  const auto list =
      nlohmann::json::parse(ask("snapshots --json --store " + files.Path("store")).output);
  size_t scheduled = 0;
  bool hand_is_there = false;
  for (const auto& one : list) {
    scheduled += one.value("message", "") == "scheduled" ? 1 : 0;
    hand_is_there = hand_is_there || one.value("id", "") == by_hand;
  }
  EXPECT_TRUE(hand_is_there);
  // One more where the end came between a snapshot and its prune.
  EXPECT_GE(scheduled, 2u);
  EXPECT_LE(scheduled, 3u);
  EXPECT_EQ(ask("verify --store " + files.Path("store")).status, 0);
}

}  // namespace
}  // namespace pacsvisor
