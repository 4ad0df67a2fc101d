// pacsvisor snapshots and verify, on a store in a directory.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/vmm/cli/program_with_machine.h"
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
      "DURABLE  MESSAGE\n" +
          first.Short() + "  2023-11-14 22:13:20  pacs     -" + dash +
          "  8.00 KiB  4.00 KiB  0.90 ms   1.20 s  before the upgrade\n" + second.Short() +
          "  2023-11-14 23:13:20  pacs     " + first.Short() +
          "  8.00 KiB  4.00 KiB  0.90 ms   1.20 s  after it\n");
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

}  // namespace
}  // namespace pacsvisor
