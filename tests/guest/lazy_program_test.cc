// `pacsvisor restore` as its user sees it: the guest goes on at once, confined as ever, the rest of
// its memory follows; a store that is damaged ends it with the reason and a status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/guest/guest_process.h"
#include "tests/guest/linux_guest.h"
#include "tests/support/needs_userfaultfd.h"
#include "tests/support/temporary_directory.h"
#include "vmm/store/store.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr uint64_t kMemoryBytes = 256 * kMiB;

class LazyProgram : public testing::Test {
 protected:
  // A guest that writes without end.
  void SetUp() override {
    NEEDS_USERFAULTFD();
    std::ofstream(Path("VM.toml"))
        << ConfigText(
               DirtierConfig(kMemoryBytes, 2, "run=dirty,pages=20000,pattern=random,rate=9000"))
        << "[store]\npath = \"" << Path("store") << "\"\n";
    GuestProcess source(Program({"run", Path("VM.toml")}));
    source.Expect("ok dirty");
    AwaitWrites("dirtier");
    id_ = Snapshot("dirtier");
  }

  GuestProcess::Options Program(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), PACSVISOR_PROGRAM);
    return {.arguments = std::move(arguments),
            .environment = {{"PACSVISOR_RUNTIME_DIR", Path("runtime")}},
            .error_log = Path("errors")};
  }
  GuestProcess::Options Restore(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"restore", id_,    "--store",     Path("store"),
                                      "--name",  "copy", "--directory", Path("copy")};
    words.insert(words.end(), more.begin(), more.end());
    return Program(words);
  }
  nlohmann::json Ask(const std::string& words) const {
    const HostResult result = AskHost("PACSVISOR_RUNTIME_DIR=" + Path("runtime") + " " +
                                      PACSVISOR_PROGRAM + " " + words + " --json");
    EXPECT_EQ(result.status, 0) << result.output << Errors();
    return nlohmann::json::parse(result.output, nullptr, false);
  }
  std::string Snapshot(const std::string& machine) const {
    return Ask("snapshot " + machine).at("result").at("id");
  }
  // Some seconds of its life, so that most of its pages are written.
  void AwaitWrites(const std::string& name) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (Ask("ps").at(0).at("uptime_ms") < 3000 && std::chrono::steady_clock::now() < deadline) {
    }
    EXPECT_EQ(Ask("ps").at(0).at("name"), name);
  }
  // Every page of a snapshot is as its guest must have left it at the instant, by the guest's own
  // record of what it wrote.
  void ExpectOfOneInstant(const std::string& id) const {
    const auto store = Store::Open(StoreFiles::OpenDirectory(Path("store")).value()).value();
    const auto snapshot = store->OpenSnapshot(store->Resolve(id).value()).value();
    std::ofstream file(Path("memory.raw"), std::ios::binary | std::ios::trunc);
    std::vector<uint8_t> bytes(kMiB);
    for (uint64_t at = 0; at < kMemoryBytes; at += bytes.size()) {
      ASSERT_TRUE(snapshot->Read(0, BlockIndex(at / 4096), bytes).ok());
      file.write(reinterpret_cast<const char*>(bytes.data()),  // bytes as characters
                 static_cast<std::streamsize>(bytes.size()));
    }
    file.close();
    const HostResult check = AskHost(PACSVISOR_DIRTIER_CHECK " 0:" + Path("memory.raw"));
    EXPECT_EQ(check.status, 0) << check.output;
    EXPECT_THAT(check.output, HasSubstr("bad=0 "));
    EXPECT_THAT(check.output, testing::Not(HasSubstr("writes=0 ")));
  }
  std::string Errors() const {
    std::ifstream stream(Path("errors"));
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  // What `ps` says of the copy when its memory is whole.
  nlohmann::json AwaitWhole() const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    nlohmann::json machine;
    do {
      machine = Ask("ps").at(0);
    } while (machine.at("memory_there_bytes") != machine.at("memory_bytes") &&
             std::chrono::steady_clock::now() < deadline);
    return machine;
  }
  // Some of the many chunks in a quarter of the largest pack are needed, whichever these are.
  void DamageStore() const {
    fs::path largest;
    for (const auto& entry : fs::directory_iterator(Path("store/packs"))) {
      if (largest.empty() || fs::file_size(entry.path()) > fs::file_size(largest)) {
        largest = entry.path();
      }
    }
    std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
    const auto size_bytes = static_cast<std::streamoff>(fs::file_size(largest));
    for (std::streamoff at = size_bytes / 2; at < size_bytes / 4 * 3; at += 1000) {
      file.seekg(at);
      const char byte = static_cast<char>(file.get() ^ 0x10);
      file.seekp(at);
      file.put(byte);
    }
    ASSERT_TRUE(file.good());
  }

  std::string Path(const std::string& name) const { return (directory_.path() / name).string(); }

  const TemporaryDirectory directory_;
  std::string id_;
};

// Its memory went with its process, and it has no disks: there is nothing to keep.
TEST_F(LazyProgram, GoesBackInPlaceWithoutDisks) {
  GuestProcess restored(Program({"restore", id_, "--store", Path("store")}));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  nlohmann::json machine;
  do {
    machine = Ask("ps");
  } while ((machine.empty() || machine.at(0).value("first_entry_ns", 0) == 0) &&
           std::chrono::steady_clock::now() < deadline);
  ASSERT_FALSE(machine.empty()) << Errors();
  EXPECT_EQ(machine.at(0).at("name"), "dirtier");
  EXPECT_EQ(Ask("snapshots --store " + Path("store")).size(), 1u);
}

TEST_F(LazyProgram, TheGuestGoesOnAndTheRestOfItsMemoryFollows) {
  for (const bool eager : {false, true}) {
    GuestProcess copy(
        Restore(eager ? std::vector<std::string>{"--eager"} : std::vector<std::string>{}));
    nlohmann::json machine;
    do {
      machine = Ask("ps");
    } while (machine.empty() || machine.at(0).value("first_entry_ns", 0) == 0);
    const std::string early = Snapshot("copy");
    machine = AwaitWhole();
    EXPECT_EQ(machine.at("memory_there_bytes"), machine.at("memory_bytes"));
    EXPECT_GT(machine.at("restore_start_ns"), machine.at("process_start_ns"));
    EXPECT_GT(machine.at("first_entry_ns"), machine.at("restore_start_ns"));
    AwaitWrites("copy");
    const std::string late = Snapshot("copy");
    EXPECT_EQ(AskHost("PACSVISOR_RUNTIME_DIR=" + Path("runtime") + " " + PACSVISOR_PROGRAM +
                      " stop copy --force")
                  .status,
              0);
    EXPECT_EQ(copy.WaitForExit(), 0) << Errors();
    ExpectOfOneInstant(id_);
    ExpectOfOneInstant(early);
    ExpectOfOneInstant(late);
    id_ = early;  // of which the next one is restored
    fs::remove_all(Path("copy"));
  }
}

TEST_F(LazyProgram, AStoreThatIsDamagedEndsItWithTheReason) {
  DamageStore();
  GuestProcess copy(Restore());
  EXPECT_EQ(copy.WaitForExit(), 1);
  EXPECT_THAT(Errors(), HasSubstr("pacsvisor: the machine cannot go on: block "));
  EXPECT_THAT(Errors(), HasSubstr(".pack"));
  EXPECT_THAT(Errors(), testing::Not(HasSubstr("system call")));  // a violation of its filter
  EXPECT_FALSE(fs::exists(Path("runtime/copy")));                 // the name is free
}

TEST_F(LazyProgram, AStoreThatIsDamagedIsRefusedWhenAllIsReadFirst) {
  DamageStore();
  GuestProcess copy(Restore({"--eager"}));
  EXPECT_EQ(copy.WaitForExit(), 1);
  EXPECT_THAT(Errors(), HasSubstr(".pack"));
}

}  // namespace
}  // namespace pacsvisor
