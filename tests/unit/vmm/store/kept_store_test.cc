// Stores that were written by earlier versions stay readable: tests/fixtures/store-FORMAT-NUMBER
// are kept as they were written. A new one, when the format gets a version or the writer a new
// choice (encrypted when its key is beside it: pacsvisor store new-key
// tests/fixtures/store-1-b.key):
//   PACSVISOR_MAKE_STORE=tests/fixtures/store-1-b build/release/tests/unit/vmm_store_test
//     --gtest_filter='KeptStore*'
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/temporary_directory.h"
#include "vmm/store/store.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kKeptBlocks = 40;
constexpr int kKeptSnapshots = 3;

// Of snapshot `number`, block `block`: what every version of the test agrees on.
std::vector<uint8_t> KeptBlock(int number, uint64_t block) {
  std::vector<uint8_t> bytes(4096);
  // Blocks divisible by 5 are zero; others change with every third snapshot that touches them.
  const uint64_t version = static_cast<uint64_t>(number) >= block % 4 ? block % 4 : 0;
  if (block % 5 != 0) {
    uint64_t state = block * 1'000'003 + version * 7919 + 1;
    for (uint8_t& byte : bytes) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      byte = static_cast<uint8_t>(block % 2 == 0 ? state >> 56 : block + version);
    }
  }
  return bytes;
}

// That of an encrypted one is in a file beside it.
std::shared_ptr<const StoreKey> KeyBeside(const std::string& path) {
  return std::filesystem::exists(path + ".key") ? StoreKey::ReadFile(path + ".key").value()
                                                : nullptr;
}

void MakeStore(const std::string& path) {
  std::filesystem::create_directories(path);
  std::shared_ptr<StoreFiles> files = StoreFiles::OpenDirectory(path).value();
  const std::shared_ptr<const StoreKey> key = KeyBeside(path);
  ASSERT_TRUE(Store::Create(*files, key.get()).ok());
  const std::unique_ptr<Store> store = Store::Open(files, {}, key).value();
  std::optional<SnapshotId> parent;
  for (int number = 0; number < kKeptSnapshots; ++number) {
    const auto writer =
        store->Begin(parent, {{"memory", 4096, kKeptBlocks * 4096}, {"disk0", 4096, 4096 + 512}})
            .value();
    for (uint64_t block = 0; block < kKeptBlocks; ++block) {
      ASSERT_TRUE(writer->Add(0, BlockIndex(block), KeptBlock(number, block)).ok());
    }
    ASSERT_TRUE(writer->Add(1, BlockIndex(0), KeptBlock(number, 3)).ok());
    ASSERT_TRUE(writer->AddZeroes(1, BlockIndex(1), 1).ok());
    SnapshotDraft draft;
    draft.machine = "kept";
    draft.message = "number " + std::to_string(number);
    draft.instant_ns = 1'700'000'000'000'000'000u + static_cast<uint64_t>(number);
    draft.texts = {{"config", "name = \"kept\"\n"}};
    draft.figures = {{"pause_ns", 1000u + static_cast<uint64_t>(number)}};
    const std::vector<uint8_t> state(100, static_cast<uint8_t>(number));
    parent = writer->Commit(draft, state).value().id;
  }
}

void ExpectKept(const std::string& path, const std::shared_ptr<const StoreKey>& key) {
  SCOPED_TRACE(path);
  const std::unique_ptr<Store> store =
      Store::Open(StoreFiles::OpenDirectory(path).value(), {}, key).value();
  const std::vector<SnapshotInfo> all = store->List().value();
  ASSERT_EQ(all.size(), static_cast<size_t>(kKeptSnapshots));
  for (int number = 0; number < kKeptSnapshots; ++number) {
    const SnapshotInfo& info = all[static_cast<size_t>(number)];
    EXPECT_EQ(info.draft.machine, "kept");
    EXPECT_EQ(info.draft.message, "number " + std::to_string(number));
    EXPECT_EQ(info.draft.figures.at("pause_ns"), 1000u + static_cast<uint64_t>(number));
    EXPECT_EQ(info.parent.has_value(), number > 0);
    const std::unique_ptr<SnapshotReader> reader = store->OpenSnapshot(info.id).value();
    EXPECT_EQ(reader->State().value(), std::vector<uint8_t>(100, static_cast<uint8_t>(number)));
    std::vector<uint8_t> bytes(4096);
    for (uint64_t block = 0; block < kKeptBlocks; ++block) {
      ASSERT_TRUE(reader->Read(0, BlockIndex(block), bytes).ok());
      EXPECT_EQ(bytes, KeptBlock(number, block)) << "block " << block;
    }
    ASSERT_TRUE(reader->Read(1, BlockIndex(0), bytes).ok());
    EXPECT_EQ(bytes, KeptBlock(number, 3));
  }
  const VerifyReport report = store->Verify({}, [](const VerifyProgress&) {}).value();
  EXPECT_TRUE(report.damages.empty());
}

TEST(KeptStore, EveryOneIsReadAsItWasWritten) {
  if (const char* path = std::getenv("PACSVISOR_MAKE_STORE"); path != nullptr) {
    MakeStore(path);
  }
  size_t stores = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(PACSVISOR_SOURCE_DIR) + "/tests/fixtures")) {
    if (entry.is_directory() && entry.path().filename().string().starts_with("store-")) {
      ++stores;
      const TemporaryDirectory directory;  // readers leave leases
      const std::string copy = directory.path() / "store";
      std::filesystem::copy(entry.path(), copy, std::filesystem::copy_options::recursive);
      ExpectKept(copy, KeyBeside(entry.path()));
    }
  }
  EXPECT_GT(stores, 0u);
}

}  // namespace
}  // namespace pacsvisor
