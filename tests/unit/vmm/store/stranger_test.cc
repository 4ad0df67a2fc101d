// Is FORMAT.md enough for a stranger? tests/stranger/store_reader.py is written from it alone, in
// another language; what it reads must be what was written, and what is damaged it must find.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/temporary_directory.h"
#include "tests/unit/vmm/store/random_history.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using store_test::Encryption;

struct Said {
  int status = -1;
  std::string text;
};

Said AskStranger(const std::string& store, const std::string& words) {
  // Debian's interpreter, whose packages the reader needs.
  const std::string command = "/usr/bin/python3 -B " PACSVISOR_SOURCE_DIR
                              "/tests/stranger/store_reader.py " +
                              store + " " + words + " 2>&1";
  Said said;
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) {
    ADD_FAILURE() << command;
    return said;
  }
  char buffer[4096];
  while (const size_t got = std::fread(buffer, 1, sizeof(buffer), pipe)) {
    said.text.append(buffer, got);
  }
  said.status = ::pclose(pipe);
  return said;
}

std::vector<uint8_t> ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<uint8_t> BytesOfValues(const store_test::Values& values) {
  std::vector<uint8_t> bytes;
  for (const uint64_t value : values) {
    const std::vector<uint8_t> block = store_test::BlockOf(value);
    bytes.insert(bytes.end(), block.begin(), block.end());
  }
  return bytes;
}

std::vector<fs::path> FilesBelow(const fs::path& place) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(place)) {
    if (entry.is_regular_file()) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

class StrangerTest : public testing::TestWithParam<Encryption> {
 protected:
  // Small packs and few tables, so that there are many packs and merged tables.
  void WriteHistory(int snapshots) {
    const std::shared_ptr<StoreFiles> files = StoreFiles::OpenDirectory(path_).value();
    ASSERT_TRUE(store_test::CreateStore(*files, GetParam()).ok());
    const auto store = Open({.pack_bytes = 200'000, .most_tables = 3});
    for (int i = 0; i < snapshots; ++i) {
      ASSERT_NO_FATAL_FAILURE(history_.Step(*store));
    }
  }

  std::unique_ptr<Store> Open(StoreTuning tuning = {}) {
    tuning.key = GetParam() == Encryption::kKey ? store_test::KeyOf() : nullptr;
    return store_test::OpenTuned(StoreFiles::OpenDirectory(path_).value(), tuning);
  }

  Said Ask(const std::string& store, const std::string& words) {
    return AskStranger(GetParam() == Encryption::kKey ? "--key " + key_path_ + " " + store : store,
                       words);
  }

  const TemporaryDirectory directory_;
  const std::string key_path_ = directory_.path() / "key";
  const std::string path_ = directory_.path() / "store";
  store_test::RandomHistory history_{11};

  StrangerTest() {
    fs::create_directory(path_);
    std::ofstream(key_path_, std::ios::binary) << std::string(kStoreKeyBytes, '\x01');
  }
};

TEST_P(StrangerTest, ReadsEverySpaceAndStateAsItWasWritten) {
  ASSERT_NO_FATAL_FAILURE(WriteHistory(40));
  const fs::path target = directory_.path() / "out";
  for (size_t i = 3; i < history_.snapshots().size(); i += 9) {
    const store_test::Snapshot& snapshot = history_.snapshots()[i];
    const std::string id = snapshot.id.Hex();
    for (size_t space = 0; space < snapshot.spaces.size(); ++space) {
      const Said said =
          Ask(path_, "extract " + id + " " + snapshot.spaces[space].name + " " + target.string());
      ASSERT_EQ(said.status, 0) << said.text;
      EXPECT_EQ(ReadFile(target), BytesOfValues(snapshot.values[space]))
          << "snapshot " << i << ", " << snapshot.spaces[space].name;
    }
    const Said said = Ask(path_, "state " + id + " " + target.string());
    ASSERT_EQ(said.status, 0) << said.text;
    EXPECT_EQ(ReadFile(target), snapshot.state);
  }
  const Said list = Ask(path_, "list");
  EXPECT_EQ(list.status, 0) << list.text;
  EXPECT_EQ(std::count(list.text.begin(), list.text.end(), '\n'), 40);
  const Said check = Ask(path_, "check");
  EXPECT_EQ(check.status, 0) << check.text;
}

// Packs are gone, chunks have moved, and tables lead to where these were.
TEST_P(StrangerTest, ReadsAPrunedStore) {
  ASSERT_NO_FATAL_FAILURE(WriteHistory(30));
  const auto store = Open({.pack_bytes = 200'000, .compact_below_percent = 95});
  const store_test::Snapshot& held = history_.snapshots()[4];
  ASSERT_TRUE(store->AddHold(held.id, 0, "for the stranger").ok());
  const Result<PruneReport> report = store->Prune({.keep = {.last = 3}});
  ASSERT_TRUE(report.ok()) << store_test::MessageOf(report);
  ASSERT_EQ(report->removed.size(), 26u);
  ASSERT_GT(report->moved_bytes, 0u);
  const fs::path target = directory_.path() / "out";
  for (const store_test::Snapshot* snapshot : {&held, &history_.snapshots().back()}) {
    const Said said = Ask(path_, "extract " + snapshot->id.Hex() + " " + snapshot->spaces[0].name +
                                     " " + target.string());
    ASSERT_EQ(said.status, 0) << said.text;
    EXPECT_EQ(ReadFile(target), BytesOfValues(snapshot->values[0]));
  }
  const Said check = Ask(path_, "check");
  EXPECT_EQ(check.status, 0) << check.text;
  EXPECT_EQ(std::ranges::count(Ask(path_, "list").text, '\n'), 4);
}

TEST_P(StrangerTest, ReadsAnExport) {
  ASSERT_NO_FATAL_FAILURE(WriteHistory(20));
  const auto store = Open();
  const store_test::Snapshot& snapshot = history_.snapshots().back();
  ASSERT_TRUE(store->AddHold(snapshot.id, 0, "for the stranger").ok());
  const fs::path file = directory_.path() / "export";
  std::ofstream out(file, std::ios::binary);
  const auto exported = store->Export(snapshot.id, [&](std::span<const uint8_t> bytes) -> Status {
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
    return {};
  });
  ASSERT_TRUE(exported.ok()) << store_test::MessageOf(exported);
  out.close();
  const fs::path target = directory_.path() / "out";
  for (size_t space = 0; space < snapshot.spaces.size(); ++space) {
    const Said said = Ask(file, "extract " + snapshot.id.Hex() + " " + snapshot.spaces[space].name +
                                    " " + target.string());
    ASSERT_EQ(said.status, 0) << said.text;
    EXPECT_EQ(ReadFile(target), BytesOfValues(snapshot.values[space]));
  }
  const Said state = Ask(file, "state " + snapshot.id.Hex() + " " + target.string());
  ASSERT_EQ(state.status, 0) << state.text;
  EXPECT_EQ(ReadFile(target), snapshot.state);
  const Said check = Ask(file, "check");
  EXPECT_EQ(check.status, 0) << check.text;
  fs::resize_file(file, fs::file_size(file) - 1);
  EXPECT_NE(Ask(file, "check").status, 0);
}

TEST(KeptStoreStrangerTest, ReadsThem) {
  for (const auto& entry : fs::directory_iterator(PACSVISOR_SOURCE_DIR "/tests/fixtures")) {
    if (entry.is_directory() && entry.path().filename().string().starts_with("store-")) {
      const std::string key = entry.path().string() + ".key";
      const Said check = AskStranger(
          (fs::exists(key) ? "--key " + key + " " : "") + entry.path().string(), "check");
      EXPECT_EQ(check.status, 0) << entry.path() << ": " << check.text;
    }
  }
}

// One bit in each file that counts: both readers find it, and name the file.
TEST_P(StrangerTest, FindsWhatOursFindsDamaged) {
  ASSERT_NO_FATAL_FAILURE(WriteHistory(6));
  size_t damaged = 0;
  for (const char* folder : {"packs", "objects", "snapshots", "keys"}) {
    if (!fs::exists(fs::path(path_) / folder)) {
      continue;  // of an encrypted store
    }
    for (const fs::path& file : FilesBelow(fs::path(path_) / folder)) {
      const std::vector<uint8_t> whole = ReadFile(file);
      std::vector<uint8_t> bytes = whole;
      bytes[bytes.size() * 2 / 3] ^= 0x10;
      std::ofstream(file, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
      const Said check = Ask(path_, "check");
      const auto store =
          OpenStore(StoreFiles::OpenDirectory(path_).value(),
                    {.key = GetParam() == Encryption::kKey ? store_test::KeyOf() : nullptr});
      const bool found = !store.ok() || !(*store)->Verify({}, nullptr).value().damages.empty();
      // An object that only an older table list named is nobody's any more.
      EXPECT_EQ(check.status != 0, found) << file << ": " << check.text;
      damaged += found ? 1 : 0;
      if (found) {
        EXPECT_NE(check.text.find(file.filename().string()), std::string::npos)
            << file << ": " << check.text;
      }
      std::ofstream(file, std::ios::binary)
          .write(reinterpret_cast<const char*>(whole.data()),
                 static_cast<std::streamsize>(whole.size()));
    }
  }
  EXPECT_GT(damaged, 6u);
  EXPECT_EQ(Ask(path_, "check").status, 0);
}

TEST(EncryptedStrangerTest, WithoutTheKeyNobodyReadsIt) {
  const std::string store = PACSVISOR_SOURCE_DIR "/tests/fixtures/store-1-b";
  const Said none = AskStranger(store, "list");
  EXPECT_NE(none.status, 0);
  EXPECT_NE(none.text.find("--key"), std::string::npos) << none.text;
  const TemporaryDirectory directory;
  const std::string other = directory.path() / "key";
  std::ofstream(other, std::ios::binary) << std::string(kStoreKeyBytes, '\x02');
  EXPECT_NE(AskStranger("--key " + other + " " + store, "list").status, 0);
}

INSTANTIATE_TEST_SUITE_P(Stores, StrangerTest, testing::Values(Encryption::kNone, Encryption::kKey),
                         [](const auto& test) { return store_test::NameOf(test.param); });

}  // namespace
}  // namespace pacsvisor
