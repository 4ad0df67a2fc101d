// What the store tests hold a store against: snapshots as plain arrays of block values in memory.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/memory_store_files.h"
#include "vmm/store/open_store.h"
#include "vmm/store/store.h"

namespace pacsvisor::store_test {

// A block is a number: 0 is the block of zeroes, every other one has contents of its own; those
// divisible by 3 compress well, others not at all.
using Values = std::vector<uint64_t>;

inline std::vector<uint8_t> BlockOf(uint64_t value) {
  std::vector<uint8_t> block(kStoreBlockBytes);
  const uint64_t step = value % 3 == 0 ? 512 : 8;
  for (uint64_t at = 0; at < block.size() && value != 0; at += step) {
    // Multiplied and folded twice: far from anything that compresses.
    uint64_t word = (value << 16 | at) * 0x9e3779b97f4a7c15;
    word = (word ^ word >> 32) * 0xbf58476d1ce4e5b9;
    word ^= word >> 29;
    std::memcpy(block.data() + at, &word, sizeof(word));
  }
  return block;
}

struct Snapshot {
  SnapshotId id;
  std::vector<StoredSpace> spaces;
  std::vector<Values> values;  // of each space
  std::vector<uint8_t> state;
  std::map<std::string, std::string> texts = {};  // beside those of DraftOf
};

inline StoredSpace SpaceOf(const std::string& name, uint64_t blocks) {
  return {.name = name, .block_bytes = kStoreBlockBytes, .size_bytes = blocks * kStoreBlockBytes};
}

inline std::string MessageOf(const Status& status) {
  return status.ok() ? "done" : status.error().message();
}
template <typename T>
std::string MessageOf(const Result<T>& result) {
  return result.ok() ? "done" : result.error().message();
}

// The blocks of `next` that `before` (if any) does not have; all, for a space that it lacks.
inline Status GiveChanges(SnapshotWriter& writer, const Snapshot* before, const Snapshot& next) {
  for (uint32_t space = 0; space < next.spaces.size(); ++space) {
    const Values* old = nullptr;
    for (size_t i = 0; before != nullptr && i < before->spaces.size(); ++i) {
      old = before->spaces[i] == next.spaces[space] ? &before->values[i] : old;
    }
    const Values& values = next.values[space];
    for (uint64_t i = 0; i < values.size(); ++i) {
      if (old == nullptr || (*old)[i] != values[i]) {
        TRY(writer.Add(space, BlockIndex(i), BlockOf(values[i])));
      }
    }
  }
  return {};
}

inline SnapshotDraft DraftOf(uint64_t instant_ns) {
  SnapshotDraft draft;
  draft.machine = "pacs";
  draft.message = "number " + std::to_string(instant_ns);
  draft.instant_ns = instant_ns;
  draft.texts["config"] = "cpus = 2\n";
  draft.figures["pause_ns"] = 1000 + instant_ns;
  return draft;
}

// Commits `next` as a child of `before`, and fills in its id.
inline Status Commit(Store& store, const Snapshot* before, Snapshot& next, uint64_t instant_ns) {
  const std::optional<SnapshotId> parent =
      before == nullptr ? std::nullopt : std::optional(before->id);
  std::unique_ptr<SnapshotWriter> writer = TRY(store.Begin(parent, next.spaces));
  TRY(GiveChanges(*writer, before, next));
  SnapshotDraft draft = DraftOf(instant_ns);
  draft.texts.insert(next.texts.begin(), next.texts.end());
  next.id = TRY(writer->Commit(draft, next.state)).id;
  return {};
}

// Every block, the state, and ZeroRun at every block.
inline void ExpectReads(Store& store, const Snapshot& snapshot) {
  Result<std::unique_ptr<SnapshotReader>> reader = store.OpenSnapshot(snapshot.id);
  ASSERT_TRUE(reader.ok()) << MessageOf(reader);
  EXPECT_EQ((*reader)->info().spaces, snapshot.spaces);
  const Result<std::vector<uint8_t>> state = (*reader)->State();
  ASSERT_TRUE(state.ok()) << MessageOf(state);
  EXPECT_EQ(*state, snapshot.state);
  for (uint32_t space = 0; space < snapshot.spaces.size(); ++space) {
    const Values& values = snapshot.values[space];
    std::vector<uint8_t> bytes(values.size() * kStoreBlockBytes);
    const Status read = (*reader)->Read(space, BlockIndex(0), bytes);
    ASSERT_TRUE(read.ok()) << MessageOf(read);
    for (uint64_t i = 0; i < values.size(); ++i) {
      const std::vector<uint8_t> block = BlockOf(values[i]);
      ASSERT_EQ(std::memcmp(bytes.data() + i * kStoreBlockBytes, block.data(), block.size()), 0)
          << "block " << i << " of space " << space;
      const auto zeroes_end = std::find_if(values.begin() + static_cast<ptrdiff_t>(i), values.end(),
                                           [](uint64_t value) { return value != 0; });
      const uint64_t run = static_cast<uint64_t>(zeroes_end - values.begin()) - i;
      const Result<uint64_t> found = (*reader)->ZeroRun(space, BlockIndex(i));
      ASSERT_TRUE(found.ok()) << MessageOf(found);
      ASSERT_EQ(*found, run) << "block " << i << " of space " << space;
    }
  }
}

inline std::string DamagesOf(const VerifyReport& report) {
  std::string text;
  for (const VerifyReport::Damage& damage : report.damages) {
    text += damage.file + ": " + damage.what + "\n";
  }
  return text;
}

inline void ExpectWhole(Store& store, size_t snapshots) {
  const Result<VerifyReport> report = store.Verify({}, nullptr);
  ASSERT_TRUE(report.ok()) << MessageOf(report);
  EXPECT_EQ(report->snapshots, snapshots);
  EXPECT_TRUE(report->damages.empty()) << DamagesOf(*report);
}

enum class Encryption { kNone, kKey };

inline std::string NameOf(Encryption encryption) {
  return encryption == Encryption::kKey ? "Encrypted" : "Plain";
}
inline std::string NameOf(MemoryStoreFiles::Cut cut) {
  return cut == MemoryStoreFiles::Cut::kKilled     ? "Killed"
         : cut == MemoryStoreFiles::Cut::kUnsynced ? "Unsynced"
                                                   : "Torn";
}

// The key of the tests' stores, and others.
inline std::shared_ptr<const StoreKey> KeyOf(uint8_t number = 1) {
  return StoreKey::Of(std::vector<uint8_t>(kStoreKeyBytes, number)).value();
}

// All of them with one secret, as if one were an import of the other.
inline std::shared_ptr<const StoreSecret> SecretOfTests() {
  static const std::shared_ptr<const StoreSecret> kSecret = StoreSecret::Random();
  return kSecret;
}

inline Status CreateStore(StoreFiles& files, Encryption encryption) {
  return encryption == Encryption::kKey ? Store::Create(files, KeyOf().get(), SecretOfTests())
                                        : Store::Create(files);
}

inline std::shared_ptr<MemoryStoreFiles> NewStoreFiles(Encryption encryption = Encryption::kNone) {
  std::shared_ptr<MemoryStoreFiles> files = MemoryStoreFiles::Create();
  const Status created = CreateStore(*files, encryption);
  EXPECT_TRUE(created.ok()) << MessageOf(created);
  return files;
}

// With the key of the tests where there are keys.
inline Result<std::unique_ptr<Store>> TryOpen(const std::shared_ptr<MemoryStoreFiles>& files,
                                              StoreTuning tuning = {}) {
  const std::vector<std::string> paths = files->Paths();
  if (std::find(paths.begin(), paths.end(), kStoreKeyPath) != paths.end()) {
    tuning.key = KeyOf();
  }
  return OpenStore(files, tuning);
}

inline std::unique_ptr<Store> OpenTuned(const std::shared_ptr<StoreFiles>& files,
                                        const StoreTuning& tuning = {}) {
  const auto memory = std::dynamic_pointer_cast<MemoryStoreFiles>(files);
  Result<std::unique_ptr<Store>> store =
      memory != nullptr ? TryOpen(memory, tuning) : OpenStore(files, tuning);
  EXPECT_TRUE(store.ok()) << MessageOf(store);
  return std::move(store).value();
}

}  // namespace pacsvisor::store_test
