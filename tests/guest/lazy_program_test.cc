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

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class LazyProgram : public testing::Test {
 protected:
  void SetUp() override {
    NEEDS_USERFAULTFD();
    std::ofstream(Path("VM.toml")) << ConfigText(DirtierConfig(256 * kMiB, 2))
                                   << "[store]\npath = \"" << Path("store") << "\"\n";
    GuestProcess source(Program({"run", Path("VM.toml")}));
    source.Expect("event ready");
    source.Send("dirty pages=20000 pattern=random writes=30000 seed=5");
    source.Expect("event done");
    source.Send("checksum");
    checksum_ = source.Expect("ok checksum");
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
  // The last chunk of the pack with the most of them is another one's.
  void DamageStore() const {
    fs::path largest;
    for (const auto& entry : fs::directory_iterator(Path("store/packs"))) {
      if (largest.empty() || fs::file_size(entry.path()) > fs::file_size(largest)) {
        largest = entry.path();
      }
    }
    std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
    const auto size_bytes = static_cast<std::streamoff>(fs::file_size(largest));
    for (std::streamoff at = size_bytes / 2; at < size_bytes / 2 + 8192; ++at) {
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
  std::string checksum_;
};

TEST_F(LazyProgram, TheGuestGoesOnAndTheRestOfItsMemoryFollows) {
  for (const bool eager : {false, true}) {
    GuestProcess copy(
        Restore(eager ? std::vector<std::string>{"--eager"} : std::vector<std::string>{}));
    copy.Send("checksum");
    EXPECT_EQ(copy.Expect("ok checksum"), checksum_);
    copy.Send("dirty pages=5000 pattern=random rate=5000 seed=6");
    copy.Expect("ok dirty");
    id_ = Snapshot("copy");  // of which the next one is restored
    copy.Send("stop");
    copy.Expect("event done");
    copy.Send("verify");
    EXPECT_THAT(copy.Expect("ok verify"), HasSubstr("bad=0"));
    const nlohmann::json machine = AwaitWhole();
    EXPECT_EQ(machine.at("memory_there_bytes"), machine.at("memory_bytes"));
    EXPECT_GT(machine.at("restore_start_ns"), machine.at("process_start_ns"));
    EXPECT_GT(machine.at("first_entry_ns"), machine.at("restore_start_ns"));
    copy.Send("checksum first=5000 pages=15000");
    checksum_ = copy.Expect("ok checksum");
    copy.Send("poweroff");
    EXPECT_EQ(copy.WaitForExit(), 0) << Errors();
    fs::remove_all(Path("copy"));
    // The last run's pages are the default from here on.
    GuestProcess again(Restore());
    again.Send("checksum first=5000 pages=15000");
    EXPECT_EQ(again.Expect("ok checksum"), checksum_);
    again.Send("verify");
    EXPECT_THAT(again.Expect("ok verify"), HasSubstr("bad=0"));
    again.Send("checksum");
    checksum_ = again.Expect("ok checksum");
    again.Send("poweroff");
    EXPECT_EQ(again.WaitForExit(), 0) << Errors();
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
