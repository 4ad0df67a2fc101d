// The n-th change of the store's files is the last one, for every n; or one call fails, for every
// call. Whatever was committed is there, and nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "tests/unit/vmm/store/store_model.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::Commit;
using store_test::CreateStore;
using store_test::DraftOf;
using store_test::Encryption;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NameOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::SpaceOf;
using store_test::TryOpen;
using testing::IsEmpty;
using Cut = MemoryStoreFiles::Cut;

// Small packs, batches and files of entries, so that a writer does everything that it ever does.
StoreTuning CrashTuning() {
  return {.pack_bytes = 20000,
          .pending_entries = 6,
          .most_tables = 2,
          .owner = "",
          .pipeline = {.workers = 2, .batch_blocks = 3}};
}

store_test::Snapshot SweptSnapshot(uint64_t first_value) {
  store_test::Snapshot snapshot;
  snapshot.spaces = {SpaceOf("memory", 9), SpaceOf("disk0", 5)};
  for (const StoredSpace& space : snapshot.spaces) {
    store_test::Values values(space.block_count());
    for (uint64_t i = 0; i < values.size(); ++i) {
      values[i] = i % 4 == 3 ? 0 : first_value + i;
    }
    snapshot.values.push_back(values);
  }
  snapshot.state = {static_cast<uint8_t>(first_value), 2, 3};
  return snapshot;
}

SnapshotRoot RootOf(const MemoryStoreFiles& files, const std::string& path) {
  const std::string key_path = "keys/" + SnapshotOfFile(path.substr(10)).value().Hex();
  const std::vector<std::string> paths = files.Paths();
  if (std::find(paths.begin(), paths.end(), key_path) == paths.end()) {
    return DecodeRoot(files.Bytes(path)).value();
  }
  const auto key = store_test::SecretOfTests()->UnwrapSnapshotKey(files.Bytes(key_path));
  return UnsealRoot(key.value(), files.Bytes(path)).value();
}

// Packs, objects and keys that no snapshot stands on.
std::vector<std::string> RubbishOf(const MemoryStoreFiles& files) {
  std::set<std::string> needed;
  uint32_t last_pack = 0;
  const std::vector<std::string> paths = files.Paths();
  for (const std::string& path : paths) {
    if (path.starts_with("snapshots/")) {
      const SnapshotRoot root = RootOf(files, path);
      last_pack = std::max(last_pack, root.last_pack);
      needed.insert(ObjectPath(root.state.name));
      for (const TableRef& table : root.tables) {
        needed.insert(ObjectPath(table.name));
      }
      needed.insert("keys/" + SnapshotOfFile(path.substr(10)).value().Hex());
    }
  }
  std::vector<std::string> rubbish;
  for (const std::string& path : paths) {
    const bool dead_pack =
        path.starts_with("packs/") && PackNumber(path.substr(6)).value() > last_pack;
    const bool may_be_dead =
        path.starts_with("objects/") || (path.starts_with("keys/") && path != kStoreKeyPath);
    if (dead_pack || (may_be_dead && !needed.contains(path))) {
      rubbish.push_back(path);
    }
  }
  return rubbish;
}

// Two snapshots that are there before.
struct Swept {
  explicit Swept(Encryption encryption)
      : files(NewStoreFiles(encryption)), first(SweptSnapshot(1)), second(SweptSnapshot(4)) {
    const auto store = OpenTuned(files, CrashTuning());
    EXPECT_TRUE(Commit(*store, nullptr, first, 1).ok());
    EXPECT_TRUE(Commit(*store, &first, second, 2).ok());
    next = SweptSnapshot(50);
  }

  // What is tried: a writer that gives up, then one that commits.
  Status Run(const std::shared_ptr<MemoryStoreFiles>& on) {
    Result<std::unique_ptr<Store>> store = TryOpen(on, CrashTuning());
    if (!store.ok()) {
      return store.error();
    }
    {
      auto given_up = TRY((*store)->Begin(second.id, second.spaces));
      for (uint64_t i = 0; i < 8; ++i) {
        TRY(given_up->Add(0, BlockIndex(i), BlockOf(900 + i)));
      }
      TRY(given_up->Flush());  // the same changes each time, however fast its threads are
    }
    return Commit(**store, &second, next, 3);
  }

  // What must hold of the disk after that and a cut.
  void Check(const std::shared_ptr<MemoryStoreFiles>& files_before, Cut cut, uint64_t seed,
             bool committed) {
    const auto left = files_before->After(cut, seed);
    auto store = OpenTuned(left, CrashTuning());
    const Result<std::vector<SnapshotInfo>> infos = store->List();
    ASSERT_TRUE(infos.ok()) << MessageOf(infos);
    size_t count = 2;
    if (committed) {
      ASSERT_EQ(infos->size(), 3u);
    }
    if (infos->size() == 3) {  // its root may be there before this was reported
      next.id = (*infos)[2].id;
      ASSERT_EQ((*infos)[2].draft.message, "number 3");
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, next));
      ++count;
    }
    ASSERT_EQ(infos->size(), count);
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, first));
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second));
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, count));
    // A writer that does nothing takes away what others left.
    ASSERT_TRUE(store->Begin(second.id, second.spaces).ok());
    std::vector<std::string> rubbish = RubbishOf(*left);
    // A power cut may take the sign that there was a writer; its objects then wait for a prune.
    std::erase_if(rubbish, [&](const std::string& path) {
      return cut != Cut::kKilled && path.starts_with("objects/");
    });
    ASSERT_THAT(rubbish, IsEmpty());
    store_test::Snapshot more = SweptSnapshot(100);
    const Status again = Commit(*store, &second, more, 4);
    ASSERT_TRUE(again.ok()) << MessageOf(again);
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, more));
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, second));
    ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, count + 1));
    for (const std::string& path : left->Paths()) {
      ASSERT_FALSE(path.starts_with("tmp/")) << path << " is left over";
    }
  }

  std::shared_ptr<MemoryStoreFiles> files;
  store_test::Snapshot first;
  store_test::Snapshot second;
  store_test::Snapshot next;
};

class StoreCrashTest : public testing::TestWithParam<std::tuple<Cut, Encryption>> {
 protected:
  static Cut cut() { return std::get<0>(GetParam()); }
  static Encryption encryption() { return std::get<1>(GetParam()); }
};

TEST_P(StoreCrashTest, WhereverItEndsTheStoreHoldsWhatWasCommitted) {
  Swept swept(encryption());
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = swept.files->After(Cut::kKilled);
    files->EndAfter(n);
    const bool committed = swept.Run(files).ok();
    const int seeds = cut() == Cut::kTorn ? 4 : 1;
    for (int seed = 0; seed < seeds; ++seed) {
      ASSERT_NO_FATAL_FAILURE(
          swept.Check(files, cut(), n * 100 + static_cast<uint64_t>(seed), committed));
    }
    if (!files->ended()) {
      ASSERT_TRUE(committed);
      break;
    }
  }
}

TEST_P(StoreCrashTest, CreateEndsWithAStoreOrLeavesRoomForOne) {
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = MemoryStoreFiles::Create();
    files->EndAfter(n);
    const bool created = CreateStore(*files, encryption()).ok();
    const auto left = files->After(cut(), n);
    const auto opened = TryOpen(left);
    if (created) {
      ASSERT_TRUE(opened.ok()) << MessageOf(opened);
    }
    if (!opened.ok()) {
      ASSERT_EQ(opened.error().code(), ErrorCode::kNotFound) << MessageOf(opened);
      const Status again = CreateStore(*left, encryption());
      ASSERT_TRUE(again.ok()) << MessageOf(again);
    }
    store_test::Snapshot first = SweptSnapshot(1);
    const auto store = OpenTuned(left, CrashTuning());
    ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, first));
    if (created) {
      break;
    }
  }
}

TEST_P(StoreCrashTest, WhileWhatADeadWriterLeftIsTakenAway) {
  Swept swept(encryption());
  // A writer that dies when all but its root is there.
  const auto dead = swept.files->After(Cut::kKilled);
  uint64_t all = 0;
  while (true) {
    const auto files = swept.files->After(Cut::kKilled);
    files->EndAfter(all);
    if (swept.Run(files).ok()) {
      break;
    }
    ++all;
  }
  dead->EndAfter(all - 5);
  ASSERT_FALSE(swept.Run(dead).ok());
  const auto rubbish = dead->After(Cut::kKilled);
  ASSERT_EQ(OpenTuned(rubbish)->List().value().size(), 2u);
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("ended after change " + std::to_string(n));
    const auto files = rubbish->After(Cut::kKilled);
    files->EndAfter(n);
    const bool committed = swept.Run(files).ok();
    ASSERT_NO_FATAL_FAILURE(swept.Check(files, cut(), n, committed));
    if (!files->ended()) {
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, StoreCrashTest,
                         testing::Combine(testing::Values(Cut::kKilled, Cut::kUnsynced, Cut::kTorn),
                                          testing::Values(Encryption::kNone, Encryption::kKey)),
                         [](const auto& test) {
                           return NameOf(std::get<0>(test.param)) + NameOf(std::get<1>(test.param));
                         });

class StoreFaultTest : public testing::TestWithParam<std::tuple<int, Encryption>> {
 protected:
  static int failure() { return std::get<0>(GetParam()); }
  static Encryption encryption() { return std::get<1>(GetParam()); }
};

TEST_P(StoreFaultTest, AFailedCallIsReportedAndTheNextTryWorks) {
  Swept swept(encryption());
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("call " + std::to_string(n) + " failed");
    const auto files = swept.files->After(Cut::kKilled);
    auto store = OpenTuned(files, CrashTuning());
    files->FailAfter(n, failure());
    const Status run = swept.Run(files);
    if (!files->failed()) {
      ASSERT_TRUE(run.ok()) << MessageOf(run);
      break;
    }
    // What is tidied up after a commit, or by a writer that gives up, may fail without a word.
    ASSERT_NO_FATAL_FAILURE(swept.Check(files, Cut::kKilled, 0, run.ok()));
    // Nor does it come back with the power.
    for (uint64_t seed = 0; seed < 4; ++seed) {
      ASSERT_NO_FATAL_FAILURE(swept.Check(files, Cut::kTorn, n * 10 + seed, run.ok()));
    }
    if (!run.ok()) {
      ASSERT_EQ(store->List().value().size(), 2u) << MessageOf(run);
      // The same process, the same objects.
      store_test::Snapshot again = SweptSnapshot(50);
      const Status retried = Commit(*store, &swept.second, again, 3);
      ASSERT_TRUE(retried.ok()) << MessageOf(retried);
      ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, again));
      ASSERT_NO_FATAL_FAILURE(ExpectWhole(*store, 3));
    }
  }
}

TEST_P(StoreFaultTest, AFailedReadIsReportedAndTheNextOneWorks) {
  Swept swept(encryption());
  for (uint64_t n = 0;; ++n) {
    SCOPED_TRACE("call " + std::to_string(n) + " failed");
    const auto store = OpenTuned(swept.files, CrashTuning());
    swept.files->FailAfter(n, failure());
    std::vector<uint8_t> bytes(9 * kStoreBlockBytes, 0xee);
    bool good = false;
    if (auto reader = store->OpenSnapshot(swept.second.id); reader.ok()) {
      good = (*reader)->Read(0, BlockIndex(0), bytes).ok() && (*reader)->State().ok();
    }
    const bool failed = swept.files->failed();
    swept.files->FailAfter(UINT64_MAX / 2, 0);
    if (good) {  // at the second attempt, or the failure was elsewhere: never wrong bytes
      for (uint64_t i = 0; i < 9; ++i) {
        const std::vector<uint8_t> block = BlockOf(swept.second.values[0][i]);
        ASSERT_EQ(std::memcmp(bytes.data() + i * kStoreBlockBytes, block.data(), block.size()), 0);
      }
    }
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, swept.second));
    if (!failed) {
      ASSERT_TRUE(good);
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Errors, StoreFaultTest,
                         testing::Values(std::tuple(ENOSPC, Encryption::kNone),
                                         std::tuple(EIO, Encryption::kNone),
                                         std::tuple(EIO, Encryption::kKey)),
                         [](const auto& test) {
                           return (std::get<0>(test.param) == EIO ? "Eio" : "Enospc") +
                                  NameOf(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace pacsvisor
