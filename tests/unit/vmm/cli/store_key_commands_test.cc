// pacsvisor store and erase, and --key on the commands that open a store.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/vmm/cli/program_with_machine.h"
#include "vmm/store/store.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class StoreKeyCommandsTest : public ProgramWithMachineTest {
 protected:
  void SetUp() override {
    ProgramWithMachineTest::SetUp();
    ASSERT_EQ(Run({"store", "new-key", key_}).status, 0);
    const Outcome made = Run({"store", "create", store_, "--key", key_});
    ASSERT_EQ(made.status, 0) << made.err;
  }

  SnapshotId Commit(uint8_t value) {
    const auto store =
        Store::Open(StoreFiles::OpenDirectory(store_).value(), {}, StoreKey::ReadFile(key_).value())
            .value();
    const auto writer = store->Begin(std::nullopt, {{"memory", 4096, 2 * 4096}}).value();
    for (uint64_t block = 0; block < 2; ++block) {
      const std::vector<uint8_t> bytes(4096, static_cast<uint8_t>(value + block));
      CHECK(writer->Add(0, BlockIndex(block), bytes).ok());
    }
    return writer->Commit({.machine = "pacs", .message = "secret message", .instant_ns = value}, {})
        ->id;
  }

  const std::string store_ = Path("store");
  const std::string key_ = Path("key");
};

TEST_F(StoreKeyCommandsTest, AKeyFileIsMadeOnceAndIsItsOwnersAlone) {
  struct stat status {};
  ASSERT_EQ(::stat(key_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(status.st_size, 32);
  const Outcome again = Run({"store", "new-key", key_});
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.err, HasSubstr("is there already"));
}

TEST_F(StoreKeyCommandsTest, EveryCommandNeedsTheKeyAndNoOther) {
  const SnapshotId id = Commit(1);
  ASSERT_EQ(Run({"store", "new-key", Path("other")}).status, 0);
  std::ofstream(Path("short")) << "too short";
  const std::vector<std::vector<std::string>> commands = {
      {"snapshots"},
      {"verify"},
      {"prune", "--keep-last", "1"},
      {"hold", "--list"},
      {"export", id.Short(), Path("out")},
      {"erase", id.Short(), "--dry-run"},
      {"restore", id.Short(), "--name", "clone"},
  };
  for (std::vector<std::string> command : commands) {
    SCOPED_TRACE(command[0]);
    command.insert(command.end(), {"--store", store_});
    const Outcome none = Run(command);
    EXPECT_EQ(none.status, 1);
    EXPECT_THAT(none.err, HasSubstr("is encrypted: name its key file"));
    command.insert(command.end(), {"--key", Path("other")});
    const Outcome other = Run(command);
    EXPECT_EQ(other.status, 1);
    EXPECT_THAT(other.err, HasSubstr("not the key of the store"));
    command.back() = Path("short");
    const Outcome cut = Run(command);
    EXPECT_EQ(cut.status, 1);
    EXPECT_THAT(cut.err, HasSubstr("a key file holds 32 random bytes"));
  }
  EXPECT_THAT(Run({"snapshots", "--store", store_, "--key", key_}).out,
              HasSubstr("secret message"));
  EXPECT_EQ(Run({"verify", "--store", store_, "--key", key_}).status, 0);
}

TEST_F(StoreKeyCommandsTest, AKeyForAPlainStoreIsRefused) {
  const std::string plain = Path("plain");
  ASSERT_EQ(Run({"store", "create", plain}).status, 0);
  const Outcome refused = Run({"verify", "--store", plain, "--key", key_});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("is not encrypted, but a key is given"));
  EXPECT_EQ(Run({"store", "create", plain}).status, 1);
}

TEST_F(StoreKeyCommandsTest, AfterAChangeTheNewKeyOpensIt) {
  Commit(1);
  const std::string other = Path("other");
  ASSERT_EQ(Run({"store", "new-key", other}).status, 0);
  const Outcome changed =
      Run({"store", "change-key", "--store", store_, "--key", key_, "--new-key", other});
  EXPECT_EQ(changed.status, 0) << changed.err;
  EXPECT_EQ(Run({"verify", "--store", store_, "--key", other}).status, 0);
  EXPECT_EQ(Run({"verify", "--store", store_, "--key", key_}).status, 1);
}

TEST_F(StoreKeyCommandsTest, AnExportIsEncryptedAndNeedsTheKey) {
  const SnapshotId id = Commit(1);
  const std::string file = Path("export");
  ASSERT_EQ(Run({"export", id.Short(), file, "--store", store_, "--key", key_}).status, 0);
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  EXPECT_THAT(bytes, Not(HasSubstr("secret message")));
  const std::string copy = Path("copy");
  EXPECT_EQ(Run({"import", file, "--store", copy}).status, 1);
  EXPECT_FALSE(fs::exists(copy));
  const Outcome imported = Run({"import", file, "--store", copy, "--key", key_});
  EXPECT_EQ(imported.status, 0) << imported.err;
  EXPECT_THAT(Run({"snapshots", "--store", copy, "--key", key_}).out, HasSubstr(id.Short()));
  EXPECT_EQ(Run({"verify", "--store", copy, "--key", key_}).status, 0);
  // Another store's secret is another.
  const std::string stranger = Path("stranger");
  ASSERT_EQ(Run({"store", "create", stranger, "--key", key_}).status, 0);
  const Outcome refused = Run({"import", file, "--store", stranger, "--key", key_});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("encrypted for another store"));
}

TEST_F(StoreKeyCommandsTest, ASnapshotIsWrittenAnewForAStoreOfAnotherKind) {
  const SnapshotId id = Commit(1);
  const std::string plain = Path("plain");
  const auto copy = [&](const std::string& to, std::vector<std::string> more) {
    more.insert(more.begin(), {"copy", id.Short(), "--to", to, "--store", store_, "--key", key_});
    return Run(more);
  };
  const Outcome copied = copy(plain, {"--rewrite"});
  EXPECT_EQ(copied.status, 0) << copied.err;
  EXPECT_THAT(copied.out, HasSubstr("snapshot " + id.Short() + " copied as "));
  EXPECT_EQ(Run({"verify", "--store", plain}).status, 0);
  EXPECT_THAT(Run({"snapshots", "--store", plain}).out, Not(HasSubstr(id.Short())));
  EXPECT_THAT(copy(plain, {"--rewrite"}).out, HasSubstr("is in that store already"));
  // Another secret, under the same key file.
  const std::string other = Path("other");
  EXPECT_EQ(copy(other, {"--rewrite", "--to-key", key_, "--json"}).status, 0);
  EXPECT_EQ(Run({"verify", "--store", other, "--key", key_}).status, 0);
  EXPECT_EQ(Run({"verify", "--store", other}).status, 1);
  const Outcome refused = copy(other, {"--to-key", key_});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("--rewrite"));
}

TEST_F(StoreKeyCommandsTest, AnErasedSnapshotIsGoneAndItIsSaidWhatWent) {
  const SnapshotId first = Commit(1);
  const SnapshotId second = Commit(2);  // shares a block with the first
  const Outcome dry =
      Run({"erase", first.Short(), "--store", store_, "--key", key_, "--dry-run", "--json"});
  ASSERT_EQ(dry.status, 0) << dry.err;
  EXPECT_EQ(nlohmann::json::parse(dry.out).at("chunks"), 1);
  ASSERT_EQ(Run({"hold", first.Short(), "--until", "2099-01-02", "--reason", "the law", "--store",
                 store_, "--key", key_})
                .status,
            0);
  const Outcome held = Run({"erase", first.Short(), "--store", store_, "--key", key_});
  EXPECT_EQ(held.status, 1);
  EXPECT_THAT(held.err, HasSubstr("the law"));
  ASSERT_EQ(Run({"hold", first.Short(), "--release", "--store", store_, "--key", key_}).status, 0);
  const Outcome erased = Run({"erase", first.Short(), "--store", store_, "--key", key_});
  EXPECT_EQ(erased.status, 0) << erased.err;
  EXPECT_THAT(erased.out, HasSubstr("erased: 1 chunk"));
  const std::string list = Run({"snapshots", "--store", store_, "--key", key_}).out;
  EXPECT_THAT(list, Not(HasSubstr(first.Short())));
  EXPECT_THAT(list, HasSubstr(second.Short()));
  EXPECT_EQ(Run({"verify", "--store", store_, "--key", key_}).status, 0);
}

}  // namespace
}  // namespace pacsvisor
