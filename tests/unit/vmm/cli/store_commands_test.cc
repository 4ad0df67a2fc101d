// pacsvisor snapshots, diff, verify, prune, hold, export, import and copy, on a store in a
// directory.
#include <gmock/gmock.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/vmm/cli/program_with_machine.h"
#include "vmm/base/clock.h"
#include "vmm/store/store.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr uint32_t kBlockBytes = 4096;

class StoreCommandsTest : public ProgramWithMachineTest {
 protected:
  void SetUp() override {
    ProgramWithMachineTest::SetUp();
    fs::create_directory(store_);
    files_ = StoreFiles::OpenDirectory(store_).value();
    ASSERT_TRUE(Store::Create(*files_).ok());
    setenv("TZ", "UTC", 1);
  }

  // A snapshot of two blocks, of which the second is `value` all over.
  SnapshotId Commit(const SnapshotDraft& draft, uint8_t value,
                    const std::optional<SnapshotId>& parent = std::nullopt) {
    const auto store = Store::Open(files_).value();
    auto writer =
        store->Begin(parent, {{.name = "memory", .size_bytes = 2ul * kBlockBytes}}).value();
    const std::vector<uint8_t> block(kBlockBytes, value);
    CHECK(writer->AddZeroes(0, BlockIndex(0), 1).ok());
    CHECK(writer->Add(0, BlockIndex(1), block).ok());
    return writer->Commit(draft, {})->id;
  }
  static SnapshotDraft DraftOf(const std::string& machine, const std::string& message) {
    return {.machine = machine,
            .message = message,
            .instant_ns = 1'700'000'000'000'000'000,
            .figures = {{"pause_ns", 900'000},
                        {"durable_ns", 1'200'000'000},
                        {"dirty_bytes", 8192},
                        {"unique_bytes", 4096}}};
  }
  // Flips a bit in the middle of the largest file of the store.
  void Damage() {
    fs::path largest;
    for (const auto& entry : fs::recursive_directory_iterator(store_)) {
      if (entry.is_regular_file() &&
          (largest.empty() || entry.file_size() > fs::file_size(largest))) {
        largest = entry.path();
      }
    }
    std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
    const auto middle = static_cast<std::streamoff>(fs::file_size(largest) / 2);
    file.seekg(middle);
    const int byte = file.get();
    file.seekp(middle);
    file.put(static_cast<char>(byte ^ 1));
  }

  const std::string store_ = Path("store");
  std::shared_ptr<StoreFiles> files_;
};

TEST_F(StoreCommandsTest, SnapshotsListsThemOldestFirst) {
  const SnapshotId first = Commit(DraftOf("pacs", "before the upgrade"), 1);
  SnapshotDraft later = DraftOf("pacs", "after it");
  later.instant_ns += 3'600'000'000'000;
  const SnapshotId second = Commit(later, 2, first);
  const Outcome outcome = Run({"snapshots", "--store", store_});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const std::string dash(SnapshotId::kShortDigits - 1, ' ');
  EXPECT_EQ(
      outcome.out,
      "ID            WHEN                 MACHINE  PARENT           DIRTY    UNIQUE    PAUSE  "
      "DURABLE  HELD  VERIFIED  MESSAGE\n" +
          first.Short() + "  2023-11-14 22:13:20  pacs     -" + dash +
          "  8.00 KiB  4.00 KiB  0.90 ms   1.20 s  -     -         before the upgrade\n" +
          second.Short() + "  2023-11-14 23:13:20  pacs     " + first.Short() +
          "  8.00 KiB  4.00 KiB  0.90 ms   1.20 s  -     -         after it\n");
}

TEST_F(StoreCommandsTest, SnapshotsOfAnEmptyStoreAreNone) {
  EXPECT_THAT(Run({"snapshots", "--store", store_}).out, testing::StartsWith("ID  WHEN  MACHINE"));
  EXPECT_EQ(Run({"snapshots", "--store", store_, "--json"}).out, "[]\n");
}

TEST_F(StoreCommandsTest, SnapshotsAreOfTheMachineThatIsNamed) {
  Commit(DraftOf("pacs", "mine"), 1);
  Commit(DraftOf("other", "another's"), 2);
  EXPECT_THAT(Run({"snapshots", "pacs", "--store", store_}).out,
              AllOf(HasSubstr("mine"), Not(HasSubstr("another's"))));
  EXPECT_THAT(Run({"snapshots", "other", "--store", store_}).out, HasSubstr("another's"));
  EXPECT_EQ(Run({"snapshots", "none", "--store", store_, "--json"}).out, "[]\n");
}

TEST_F(StoreCommandsTest, ARunningMachineTellsItsStore) {
  MachineDescription description = machine_.Describe();
  description.store = store_;
  machine_.SetDescription(description);
  Commit(DraftOf("pacs", "mine"), 1);
  EXPECT_THAT(Run({"snapshots", "pacs"}).out, HasSubstr("mine"));
}

TEST_F(StoreCommandsTest, WhereTheStoreIsMustBeKnown) {
  const Outcome nobody = Run({"snapshots"});
  EXPECT_EQ(nobody.status, 2);
  EXPECT_THAT(nobody.err, AllOf(HasSubstr("--store DIR"), HasSubstr("--help")));
  const Outcome stopped = Run({"snapshots", "other"});
  EXPECT_EQ(stopped.status, 1);
  EXPECT_THAT(stopped.err, AllOf(HasSubstr("no machine named 'other'"), HasSubstr("--store DIR")));
  MachineDescription description = machine_.Describe();
  description.store = "";
  machine_.SetDescription(description);
  EXPECT_THAT(Run({"snapshots", "pacs"}).err, HasSubstr("has no store"));
  EXPECT_EQ(Run({"snapshots", "--store", Path("nowhere")}).status, 1);
}

TEST_F(StoreCommandsTest, SnapshotsAsJsonTellWhatIsKnown) {
  const SnapshotId id = Commit(DraftOf("pacs", "m"), 1);
  const nlohmann::json list =
      nlohmann::json::parse(Run({"snapshots", "--store", store_, "--json"}).out);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].at("id"), id.Hex());
  EXPECT_EQ(list[0].at("parent"), "");
  EXPECT_EQ(list[0].at("consistency"), "crash");
  EXPECT_EQ(list[0].at("figures").at("pause_ns"), 900'000);
  EXPECT_EQ(list[0].at("spaces").at(0).at("size_bytes"), 8192);
  EXPECT_EQ(list[0].at("blocks").at("zero"), 1);
}

TEST_F(StoreCommandsTest, AMessageCannotDressUpTheTerminal) {
  Commit(DraftOf("pacs", "\x1b[31mred\nnext"), 1);
  EXPECT_THAT(Run({"snapshots", "--store", store_}).out, HasSubstr("?[31mred?next"));
}

TEST_F(StoreCommandsTest, DiffTellsWhatChangedBySpaceAndInTheConfiguration) {
  SnapshotDraft draft = DraftOf("pacs", "before");
  draft.texts["config"] = "name = \"pacs\"\ncpus = 2\n";
  const SnapshotId first = Commit(draft, 1);
  draft.message = "after";
  draft.texts["config"] = "name = \"pacs\"\ncpus = 4\n";
  const SnapshotId second = Commit(draft, 2, first);
  const Outcome outcome = Run({"diff", first.Short(), second.Short(), "--store", store_});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "- " + first.Short() + "  2023-11-14 22:13:20  pacs  before\n+ " +
                             second.Short() +
                             "  2023-11-14 22:13:20  pacs  after\n"
                             "memory: 1 block (4.00 KiB) in 1 run differ, 0 of them zero now\n"
                             "state of vCPUs and devices: the same\n"
                             "config: 1 line removed, 1 added\n"
                             "  - cpus = 2\n  + cpus = 4\n");
  const nlohmann::json json = nlohmann::json::parse(
      Run({"diff", first.Short(), second.Short(), "--store", store_, "--json"}).out);
  EXPECT_EQ(json.at("after"), second.Hex());
  EXPECT_EQ(json.at("spaces").at(0).at("changed_blocks"), 1);
  EXPECT_EQ(json.at("spaces").at(0).at("changed_bytes"), 4096);
  EXPECT_EQ(json.at("texts").at(0).at("added").at(0), "cpus = 4");
  EXPECT_THAT(Run({"diff", first.Short(), first.Short(), "--store", store_}).out,
              HasSubstr("memory: the same in all of its 8.00 KiB\n"));
}

TEST_F(StoreCommandsTest, DiffTellsOfDisksThatOneHasAndOfSizes) {
  const auto commit = [&](std::vector<StoredSpace> spaces) {
    const auto store = Store::Open(files_).value();
    auto writer = store->Begin(std::nullopt, spaces).value();
    for (uint32_t space = 0; space < spaces.size(); ++space) {
      const std::vector<uint8_t> block(kBlockBytes, static_cast<uint8_t>(space + 1));
      for (uint64_t i = 0; i < spaces[space].block_count(); ++i) {
        CHECK(writer->Add(space, BlockIndex(i), block).ok());
      }
    }
    return writer->Commit(DraftOf("pacs", "m"), {})->id;
  };
  const SnapshotId first = commit({{"disk0", 4096, 8192}, {"old", 4096, 4096}});
  const SnapshotId second = commit({{"disk0", 4096, 12288}, {"new", 4096, 5000}});
  EXPECT_THAT(Run({"diff", first.Short(), second.Short(), "--store", store_}).out,
              HasSubstr("disk0: the same in all of its 8.00 KiB; grown from 8.00 KiB to 12.0 KiB, "
                        "1 block of the difference are not zero\n"
                        "old: only the first has it: 4.00 KiB, of which 1 block (4.00 KiB) are not "
                        "zero\n"
                        "new: only the second has it: 4.88 KiB, of which 2 blocks (4.88 KiB) are "
                        "not zero\n"));
  EXPECT_THAT(Run({"diff", second.Short(), first.Short(), "--store", store_}).out,
              HasSubstr("shrunk from 12.0 KiB to 8.00 KiB, 1 block"));
}

TEST_F(StoreCommandsTest, DiffNeedsTwoSnapshotsAndTheirStore) {
  const SnapshotId id = Commit(DraftOf("pacs", "one"), 1);
  EXPECT_EQ(Run({"diff", id.Hex(), "--store", store_}).status, 2);
  EXPECT_EQ(Run({"diff", id.Hex(), id.Hex()}).status, 2);
  const Outcome unknown = Run({"diff", id.Hex(), "abcdef", "--store", store_});
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(unknown.err, HasSubstr("abcdef"));
}

TEST_F(StoreCommandsTest, VerifyFindsNothingWrongWithASoundStore) {
  const SnapshotId first = Commit(DraftOf("pacs", "one"), 1);
  Commit(DraftOf("pacs", "two"), 2, first);
  const Outcome all = Run({"verify", "--store", store_});
  EXPECT_EQ(all.status, 0) << all.err;
  EXPECT_THAT(all.out, AllOf(HasSubstr("2 snapshots, "), HasSubstr("nothing is damaged")));
  const Outcome one = Run({"verify", first.Short(), "--store", store_});
  EXPECT_EQ(one.status, 0) << one.err;
  EXPECT_THAT(one.out, HasSubstr("1 snapshot, "));
  const nlohmann::json json =
      nlohmann::json::parse(Run({"verify", "--json", "--store", store_}).out);
  EXPECT_EQ(json.at("snapshots"), 2);
  EXPECT_THAT(json.at("damages"), IsEmpty());
}

TEST_F(StoreCommandsTest, VerifyNamesWhatIsDamaged) {
  const SnapshotId id = Commit(DraftOf("pacs", "one"), 1);
  Damage();
  const Outcome outcome = Run({"verify", "--store", store_});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("1 damage"), HasSubstr("needed by " + id.Short())));
  const Outcome json = Run({"verify", "--json", "--store", store_});
  EXPECT_EQ(json.status, 1);
  const nlohmann::json damage = nlohmann::json::parse(json.out).at("damages").at(0);
  const std::string file = damage.at("file");
  EXPECT_THAT(outcome.out,
              AllOf(testing::StartsWith(file + ": "), Not(HasSubstr(file + ": " + file + ": "))));
  EXPECT_TRUE(fs::exists(fs::path(store_) / damage.at("file").get<std::string>()));
  EXPECT_THAT(damage.at("snapshots").get<std::vector<std::string>>(), ElementsAre(id.Hex()));
}

TEST_F(StoreCommandsTest, VerifyNeedsItsStoreAndSnapshots) {
  EXPECT_EQ(Run({"verify"}).status, 2);
  const Outcome unknown = Run({"verify", "abcdef", "--store", store_});
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(unknown.err, HasSubstr("abcdef"));
  EXPECT_EQ(Run({"verify", "--store", Path("nowhere")}).status, 1);
}

TEST_F(StoreCommandsTest, ASampleSaysWhatShareItProvedAndHowToRepeatIt) {
  Commit(DraftOf("pacs", "one"), 1);
  const Outcome half = Run({"verify", "--sample", "50%", "--seed", "7", "--store", store_});
  EXPECT_EQ(half.status, 0) << half.err;
  EXPECT_THAT(half.out,
              HasSubstr("a sample: 1 of 1 chunks (100%) are what they were; --seed 7 chooses them\n"
                        "1 snapshot, "));
  const nlohmann::json json =
      nlohmann::json::parse(Run({"verify", "--sample", "1000", "--json", "--store", store_}).out);
  EXPECT_EQ(json.at("sample").at("chunks"), 1);
  EXPECT_EQ(json.at("sample").at("share"), 1.0);
  EXPECT_EQ(json.at("recorded"), false);
  for (const char* wrong : {"0", "0%", "101%", "-1", "some", "5 %", "%", "1e3"}) {
    const Outcome outcome = Run({"verify", std::string("--sample=") + wrong, "--store", store_});
    EXPECT_EQ(outcome.status, 1) << wrong;
    EXPECT_THAT(outcome.err, HasSubstr("is no sample"));
  }
  EXPECT_EQ(Run({"verify", "--seed", "1", "--store", store_}).status, 2);
  EXPECT_EQ(Run({"verify", "abcd", "--sample", "1%", "--store", store_}).status, 2);
  EXPECT_EQ(Run({"verify", "abcd", "--restart", "--store", store_}).status, 2);
  Damage();
  EXPECT_EQ(Run({"verify", "--sample", "100%", "--store", store_}).status, 1);
}

TEST_F(StoreCommandsTest, SnapshotsWarnWhenTheNewestVerifiedOneIsTooOld) {
  const auto within = [&](const std::string& age) {
    return Run({"snapshots", "--store", store_, "--verified-within", age});
  };
  EXPECT_THAT(within("7d").err, HasSubstr("no snapshot"));
  SnapshotDraft draft = DraftOf("pacs", "fresh");
  draft.instant_ns = RealtimeNs() - 3600ull * 1'000'000'000;
  Commit(draft, 1);
  const Outcome never = within("7d");
  EXPECT_EQ(never.status, 1);
  EXPECT_THAT(never.out, HasSubstr("fresh"));
  EXPECT_THAT(never.err, HasSubstr("machine 'pacs' has no snapshot that was verified"));
  EXPECT_EQ(Run({"verify", "--store", store_}).status, 0);
  EXPECT_EQ(within("7d").status, 0);
  EXPECT_EQ(within("2h").err, "");
  const Outcome old = within("30m");
  EXPECT_EQ(old.status, 1);
  EXPECT_THAT(old.err, HasSubstr("machine 'pacs': its newest verified snapshot is of "));
  // Each machine for itself, and one that has none.
  draft.machine = "other";
  Commit(draft, 2);
  EXPECT_THAT(within("7d").err, AllOf(HasSubstr("'other' has no"), Not(HasSubstr("'pacs'"))));
  EXPECT_EQ(Run({"snapshots", "pacs", "--store", store_, "--verified-within", "7d"}).status, 0);
  EXPECT_EQ(Run({"snapshots", "third", "--store", store_, "--verified-within", "7d"}).status, 1);
  EXPECT_THAT(within("a week").err, HasSubstr("is no time"));
  const nlohmann::json list =
      nlohmann::json::parse(Run({"snapshots", "pacs", "--store", store_, "--json"}).out);
  EXPECT_GT(list[0].at("verified_ns"), 0);
}

TEST_F(StoreCommandsTest, SnapshotsWarnOfWhatTheMachinesOwnConfigurationAsks) {
  SnapshotDraft draft = DraftOf("pacs", "scheduled");
  draft.instant_ns = RealtimeNs() - 3600ull * 1'000'000'000;
  draft.texts["config"] = "[schedule]\nevery = \"1h\"\nverified_within = \"2h\"\n";
  Commit(draft, 1);
  const Outcome never = Run({"snapshots", "--store", store_});
  EXPECT_EQ(never.status, 0);
  EXPECT_THAT(never.err, HasSubstr("machine 'pacs' has no snapshot that was verified"));
  EXPECT_EQ(Run({"verify", "--store", store_}).status, 0);
  EXPECT_EQ(Run({"snapshots", "--store", store_}).err, "");
  // The newest one's counts, and what is asked here before it.
  draft.instant_ns += 1;
  draft.texts["config"] = "[schedule]\nevery = \"1h\"\nverified_within = \"30m\"\n";
  Commit(draft, 2);
  EXPECT_THAT(Run({"snapshots", "--store", store_}).err,
              HasSubstr("newest verified snapshot is of"));
  EXPECT_EQ(Run({"snapshots", "--store", store_, "--verified-within", "2h"}).err, "");
}

TEST_F(StoreCommandsTest, AVerifyThatIsInterruptedSaysThatItGoesOn) {
  Commit(DraftOf("pacs", "one"), 1);
  // Caught and not yet taken when the command begins.
  const Outcome cut = Run({"verify", "--store", store_}, [] {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    raise(SIGINT);
  });
  EXPECT_EQ(cut.status, 1);
  EXPECT_THAT(cut.err, HasSubstr("interrupted; the same command goes on"));
  EXPECT_EQ(Run({"verify", "--store", store_}).status, 0);
}

TEST_F(StoreCommandsTest, PruneRemovesWhatNoRuleKeepsAndTellsWhat) {
  const SnapshotId first = Commit(DraftOf("pacs", "one"), 1);
  SnapshotDraft later = DraftOf("pacs", "two");
  later.instant_ns += 1;
  const SnapshotId second = Commit(later, 2, first);
  const Outcome dry = Run({"prune", "--store", store_, "--keep-last", "1", "--dry-run"});
  EXPECT_EQ(dry.status, 0) << dry.err;
  EXPECT_THAT(dry.out,
              AllOf(testing::StartsWith(first.Short() + "  2023-11-14 22:13:20  pacs  one"),
                    HasSubstr("1 snapshot would be removed, 1 kept; ")));
  const Outcome none = Run({"prune", "--store", store_});
  EXPECT_THAT(none.out, HasSubstr("0 snapshots removed, 2 kept; "));
  const nlohmann::json json = nlohmann::json::parse(
      Run({"prune", "pacs", "--store", store_, "--keep-daily", "1", "--json"}).out);
  EXPECT_THAT(json.at("removed").get<std::vector<std::string>>(), ElementsAre(first.Hex()));
  EXPECT_EQ(json.at("kept"), 1);
  EXPECT_GT(json.at("freed_bytes"), 0);
  EXPECT_EQ(json.at("dry_run"), false);
  EXPECT_THAT(Run({"snapshots", "--store", store_}).out,
              AllOf(HasSubstr(second.Short()), Not(HasSubstr("one"))));
  EXPECT_EQ(Run({"verify", "--store", store_}).status, 0);
}

TEST_F(StoreCommandsTest, PruneNeedsItsStoreAndNumbers) {
  EXPECT_EQ(Run({"prune"}).status, 2);
  EXPECT_EQ(Run({"prune", "--store", store_, "--keep-last", "-1"}).status, 2);
  EXPECT_EQ(Run({"prune", "--store", Path("nowhere")}).status, 1);
  const auto writer = Store::Open(files_).value()->Begin(std::nullopt, {{"memory", 4096, 4096}});
  const Outcome busy = Run({"prune", "--store", store_, "--keep-last", "1"});
  EXPECT_EQ(busy.status, 1);
  EXPECT_THAT(busy.err, HasSubstr("is locked by pid "));
}

TEST_F(StoreCommandsTest, AHeldSnapshotIsListedAndStaysUntilItIsReleased) {
  const SnapshotId first = Commit(DraftOf("pacs", "one"), 1);
  SnapshotDraft later = DraftOf("pacs", "two");
  later.instant_ns += 1;
  Commit(later, 2, first);
  const Outcome held = Run(
      {"hold", first.Short(), "--until", "2099-01-02", "--reason", "trial 17", "--store", store_});
  EXPECT_EQ(held.status, 0) << held.err;
  EXPECT_THAT(held.out,
              AllOf(HasSubstr(first.Short()), HasSubstr("2099-01-02"), HasSubstr("trial 17")));
  EXPECT_EQ(Run({"hold", "--list", "--store", store_}).out, held.out);
  EXPECT_THAT(Run({"snapshots", "--store", store_}).out,
              HasSubstr("1.20 s  2099-01-02  -         one"));
  const nlohmann::json list =
      nlohmann::json::parse(Run({"snapshots", "--store", store_, "--json"}).out);
  EXPECT_EQ(list[0].at("holds").at(0).at("reason"), "trial 17");
  EXPECT_THAT(list[1].at("holds"), IsEmpty());
  const Outcome spared = Run({"prune", "--store", store_, "--keep-last", "1"});
  EXPECT_THAT(spared.out,
              AllOf(HasSubstr(first.Short() + " stays: held until 2099-01-02 (trial 17)"),
                    HasSubstr("0 snapshots removed, 2 kept")));
  EXPECT_EQ(Run({"hold", first.Short(), "--release", "--word", "none", "--store", store_}).status,
            1);
  EXPECT_EQ(Run({"hold", first.Short(), "--release", "--store", store_}).out,
            "1 hold of " + first.Short() + " released\n");
  EXPECT_EQ(Run({"hold", "--list", "--json", "--store", store_}).out, "[]\n");
  EXPECT_THAT(Run({"prune", "--store", store_, "--keep-last", "1"}).out,
              HasSubstr("1 snapshot removed, 1 kept"));
}

TEST_F(StoreCommandsTest, AHoldSaysWhatItNeeds) {
  const SnapshotId id = Commit(DraftOf("pacs", "one"), 1);
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{},
        {id.Hex()},
        {id.Hex(), "--until", "forever"},
        {id.Hex(), "--reason", "r"},
        {"--release"},
        {"--list", "--release"},
        {id.Hex(), "--release", "--until", "forever", "--reason", "r"}}) {
    std::vector<std::string> arguments = {"hold", "--store", store_};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(Run(arguments).status, 2);
  }
  for (const char* until : {"2001-01-01", "2030-02-30", "soon", "0d", "99999d", "d", "30"}) {
    const Outcome outcome =
        Run({"hold", id.Hex(), "--until", until, "--reason", "r", "--store", store_});
    EXPECT_EQ(outcome.status, 1) << until;
    EXPECT_THAT(outcome.err, HasSubstr(until));
  }
  EXPECT_EQ(Run({"hold", "--list", "--store", store_}).out, "");
}

TEST_F(StoreCommandsTest, AnExportIsImportedIntoAnotherStore) {
  const SnapshotId id = Commit(DraftOf("pacs", "one"), 1);
  const std::string file = Path("one.snapshot");
  const Outcome exported = Run({"export", id.Short(), file, "--store", store_});
  EXPECT_EQ(exported.status, 0) << exported.err;
  EXPECT_THAT(exported.out, HasSubstr("snapshot " + id.Short() + " exported: "));
  EXPECT_FALSE(fs::exists(file + ".part"));
  EXPECT_EQ(fs::status(file).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  const Outcome again = Run({"export", id.Short(), file, "--store", store_});
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.err, HasSubstr("is there already"));
  const std::string other = Path("other");
  const Outcome imported = Run({"import", file, "--store", other});
  EXPECT_EQ(imported.status, 0) << imported.err;
  EXPECT_THAT(imported.out, HasSubstr("snapshot " + id.Short() + " imported: "));
  EXPECT_THAT(Run({"import", file, "--store", other}).out, HasSubstr("is in the store already"));
  EXPECT_THAT(Run({"verify", "--store", other}).out, HasSubstr("nothing is damaged"));
  fs::resize_file(file, fs::file_size(file) - 1);
  const std::string third = Path("third");
  const Outcome cut = Run({"import", file, "--store", third});
  EXPECT_EQ(cut.status, 1);
  EXPECT_THAT(cut.err, HasSubstr("the export ends at byte"));
  EXPECT_EQ(Run({"snapshots", "--store", third, "--json"}).out, "[]\n");
}

TEST_F(StoreCommandsTest, AnExportGoesThroughAPipe) {
  const SnapshotId id = Commit(DraftOf("pacs", "one"), 1);
  const std::string file = Path("piped");
  const Outcome exported = Run({"export", id.Short(), "-", "--store", store_});
  EXPECT_EQ(exported.status, 0) << exported.err;
  EXPECT_THAT(exported.err, HasSubstr("exported: "));
  std::ofstream(file, std::ios::binary) << exported.out;
  const nlohmann::json json =
      nlohmann::json::parse(Run({"import", file, "--store", Path("other"), "--json"}).out);
  EXPECT_EQ(json.at("id"), id.Hex());
  EXPECT_EQ(json.at("bytes"), exported.out.size());
  EXPECT_EQ(json.at("was_there"), false);
}

TEST_F(StoreCommandsTest, CopySendsWhatTheOtherStoreLacks) {
  const SnapshotId first = Commit(DraftOf("pacs", "one"), 1);
  SnapshotDraft later = DraftOf("pacs", "two");
  later.instant_ns += 1;
  const SnapshotId second = Commit(later, 2, first);
  EXPECT_EQ(
      Run({"hold", second.Short(), "--until", "forever", "--reason", "kept", "--store", store_})
          .status,
      0);
  const std::string other = Path("other");
  // The newer one first: they are copied in the order that they were taken in.
  const Outcome copied =
      Run({"copy", second.Short(), first.Short(), "--to", other, "--store", store_});
  EXPECT_EQ(copied.status, 0) << copied.err;
  EXPECT_THAT(copied.out, testing::MatchesRegex(
                              "snapshot " + first.Short() +
                              " copied: 0 of 1 chunks were there, [0-9.]+ K?i?B sent\nsnapshot " +
                              second.Short() + " copied: .* sent, 1 hold\n"));
  EXPECT_THAT(Run({"verify", "--store", other}).out,
              AllOf(HasSubstr("2 snapshots"), HasSubstr("nothing is damaged")));
  EXPECT_THAT(Run({"hold", "--list", "--store", other}).out, HasSubstr("kept"));
  EXPECT_THAT(Run({"diff", first.Short(), second.Short(), "--store", other}).out,
              HasSubstr("1 block (4.00 KiB)"));
  EXPECT_EQ(Run({"copy", first.Short(), "--to", other, "--store", store_}).out,
            "snapshot " + first.Short() + " is in that store already\n");
  const nlohmann::json json = nlohmann::json::parse(
      Run({"copy", first.Short(), "--to", Path("third"), "--store", store_, "--json"}).out);
  EXPECT_EQ(json[0].at("id"), first.Hex());
  EXPECT_EQ(json[0].at("chunks"), 1);
  EXPECT_EQ(json[0].at("was_there"), false);
}

TEST_F(StoreCommandsTest, ACopyThatIsInterruptedSaysThatItGoesOn) {
  const SnapshotId id = Commit(DraftOf("pacs", "one"), 1);
  const std::string other = Path("other");
  const Outcome cut = Run({"copy", id.Hex(), "--to", other, "--store", store_}, [] {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    raise(SIGTERM);
  });
  EXPECT_EQ(cut.status, 1);
  EXPECT_THAT(cut.err, HasSubstr("interrupted; the same command goes on"));
  EXPECT_EQ(Run({"snapshots", "--store", other, "--json"}).out, "[]\n");
  EXPECT_EQ(Run({"copy", id.Hex(), "--to", other, "--store", store_}).status, 0);
}

TEST_F(StoreCommandsTest, CopyNeedsWhatItNeeds) {
  const SnapshotId id = Commit(DraftOf("pacs", "one"), 1);
  EXPECT_EQ(Run({"copy", "--to", Path("other"), "--store", store_}).status, 2);
  EXPECT_EQ(Run({"copy", id.Hex(), "--store", store_}).status, 2);
  EXPECT_EQ(Run({"copy", "abcdef", "--to", Path("other"), "--store", store_}).status, 1);
  EXPECT_FALSE(fs::exists(Path("other")));
  fs::create_directories(Path("full/of something"));
  EXPECT_THAT(Run({"copy", id.Hex(), "--to", Path("full"), "--store", store_}).err,
              HasSubstr("is not empty"));
}

TEST_F(StoreCommandsTest, ExportAndImportNeedWhatTheyNeed) {
  EXPECT_EQ(Run({"export", "--store", store_}).status, 2);
  EXPECT_EQ(Run({"import", "--store", store_}).status, 2);
  EXPECT_EQ(Run({"export", "abcdef", Path("file"), "--store", store_}).status, 1);
  EXPECT_EQ(Run({"import", Path("nowhere"), "--store", store_}).status, 1);
  EXPECT_FALSE(fs::exists(Path("file.part")));
}

}  // namespace
}  // namespace pacsvisor
