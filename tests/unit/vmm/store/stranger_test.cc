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

class StrangerTest : public testing::Test {
 protected:
  // Small packs and few tables, so that there are many packs and merged tables.
  void WriteHistory(int snapshots) {
    const std::shared_ptr<StoreFiles> files = StoreFiles::OpenDirectory(path_).value();
    ASSERT_TRUE(Store::Create(*files).ok());
    const auto store = store_test::OpenTuned(files, {.pack_bytes = 200'000, .most_tables = 3});
    for (int i = 0; i < snapshots; ++i) {
      ASSERT_NO_FATAL_FAILURE(history_.Step(*store));
    }
  }

  const TemporaryDirectory directory_;
  const std::string path_ = directory_.path() / "store";
  store_test::RandomHistory history_{11};

  StrangerTest() { fs::create_directory(path_); }
};

TEST_F(StrangerTest, ReadsEverySpaceAndStateAsItWasWritten) {
  ASSERT_NO_FATAL_FAILURE(WriteHistory(40));
  const fs::path target = directory_.path() / "out";
  for (size_t i = 3; i < history_.snapshots().size(); i += 9) {
    const store_test::Snapshot& snapshot = history_.snapshots()[i];
    const std::string id = snapshot.id.Hex();
    for (size_t space = 0; space < snapshot.spaces.size(); ++space) {
      const Said said = AskStranger(
          path_, "extract " + id + " " + snapshot.spaces[space].name + " " + target.string());
      ASSERT_EQ(said.status, 0) << said.text;
      EXPECT_EQ(ReadFile(target), BytesOfValues(snapshot.values[space]))
          << "snapshot " << i << ", " << snapshot.spaces[space].name;
    }
    const Said said = AskStranger(path_, "state " + id + " " + target.string());
    ASSERT_EQ(said.status, 0) << said.text;
    EXPECT_EQ(ReadFile(target), snapshot.state);
  }
  const Said list = AskStranger(path_, "list");
  EXPECT_EQ(list.status, 0) << list.text;
  EXPECT_EQ(std::count(list.text.begin(), list.text.end(), '\n'), 40);
  const Said check = AskStranger(path_, "check");
  EXPECT_EQ(check.status, 0) << check.text;
}

TEST_F(StrangerTest, ReadsTheKeptStores) {
  for (const auto& entry : fs::directory_iterator(PACSVISOR_SOURCE_DIR "/tests/fixtures")) {
    if (entry.path().filename().string().starts_with("store-")) {
      const Said check = AskStranger(entry.path(), "check");
      EXPECT_EQ(check.status, 0) << entry.path() << ": " << check.text;
    }
  }
}

// One bit in each file that counts: both readers find it, and name the file.
TEST_F(StrangerTest, FindsWhatOursFindsDamaged) {
  ASSERT_NO_FATAL_FAILURE(WriteHistory(6));
  size_t damaged = 0;
  for (const char* folder : {"packs", "objects", "snapshots"}) {
    for (const fs::path& file : FilesBelow(fs::path(path_) / folder)) {
      const std::vector<uint8_t> whole = ReadFile(file);
      std::vector<uint8_t> bytes = whole;
      bytes[bytes.size() * 2 / 3] ^= 0x10;
      std::ofstream(file, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
      const Said check = AskStranger(path_, "check");
      const auto store = store_test::OpenTuned(StoreFiles::OpenDirectory(path_).value());
      const Result<VerifyReport> ours = store->Verify({}, nullptr);
      const bool found = !ours.ok() || !ours->damages.empty();
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
  EXPECT_EQ(AskStranger(path_, "check").status, 0);
}

}  // namespace
}  // namespace pacsvisor
