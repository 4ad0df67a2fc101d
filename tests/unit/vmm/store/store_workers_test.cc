// A store's writer with its threads: the files are the same however many there are; what fails on
// one of them, or is called off, leaves nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/unit/vmm/store/random_history.h"
#include "vmm/store/limited_files.h"
#include "vmm/store/write_behind.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::CreateStore;
using store_test::DraftOf;
using store_test::Encryption;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::RandomHistory;
using store_test::SpaceOf;
using testing::HasSubstr;
using Cut = MemoryStoreFiles::Cut;

StoreTuning TuningOf(const ChunkPipeline::Options& pipeline) {
  return {.pack_bytes = 300'000, .pending_entries = 50, .most_tables = 3, .pipeline = pipeline};
}

// Many blocks, with zeroes, repetitions near and far, and blocks that are given again.
store_test::Snapshot WriteLarge(Store& store, uint64_t seed, const store_test::Snapshot* parent) {
  constexpr uint64_t kBlocks = 3000;
  store_test::Snapshot next;
  next.spaces = {SpaceOf("memory", kBlocks)};
  next.values = {parent == nullptr ? store_test::Values(kBlocks) : parent->values[0]};
  next.state = {1, 2, 3};
  const auto id = parent == nullptr ? std::nullopt : std::optional(parent->id);
  auto writer = store.Begin(id, next.spaces).value();
  std::mt19937_64 random(seed);
  const auto give = [&](uint64_t block, uint64_t value) {
    next.values[0][block] = value;
    const Status added = writer->Add(0, BlockIndex(block), BlockOf(value));
    ASSERT_TRUE(added.ok()) << MessageOf(added);
  };
  for (uint64_t block = 0; block < kBlocks; ++block) {
    if (parent == nullptr || random() % 3 == 0) {
      give(block, random() % 4 == 0 ? random() % 20 : 1000 * seed + block);
    }
    if (random() % 50 == 0) {
      give(random() % (block + 1), 7);
    }
  }
  const Result<SnapshotInfo> info = writer->Commit(DraftOf(seed), next.state);
  EXPECT_TRUE(info.ok()) << MessageOf(info);
  next.id = info.value().id;
  return next;
}

std::map<std::string, std::vector<uint8_t>> FilesOf(const MemoryStoreFiles& files) {
  std::map<std::string, std::vector<uint8_t>> all;
  for (const std::string& path : files.Paths()) {
    all[path] = files.Bytes(path);
  }
  return all;
}

constexpr ChunkPipeline::Options kPipelines[] = {
    {.workers = 0, .batch_blocks = 1}, {.workers = 0},
    {.workers = 1, .batch_blocks = 3}, {.workers = 2},
    {.workers = 2, .batch_blocks = 1}, {.workers = 4, .batch_blocks = 7},
};

TEST(StoreWorkers, TheFilesAreTheSameByteForByteHoweverManyThereAre) {
  const auto empty = NewStoreFiles();
  std::map<std::string, std::vector<uint8_t>> first;
  for (const ChunkPipeline::Options& pipeline : kPipelines) {
    SCOPED_TRACE(std::to_string(pipeline.workers) + " workers");
    const auto files = empty->After(Cut::kKilled);
    const auto store = OpenTuned(files, TuningOf(pipeline));
    const store_test::Snapshot parent = WriteLarge(*store, 1, nullptr);
    const store_test::Snapshot child = WriteLarge(*store, 2, &parent);
    RandomHistory history(3);
    for (int i = 0; i < 30; ++i) {
      ASSERT_NO_FATAL_FAILURE(history.Step(*store));
    }
    const auto all = FilesOf(*files);
    first = first.empty() ? all : first;
    ASSERT_EQ(all.size(), first.size());
    for (const auto& [path, bytes] : all) {
      ASSERT_TRUE(first.contains(path)) << path;
      ASSERT_TRUE(first.at(path) == bytes) << path;
    }
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, parent));
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, child));
  }
}

// Its bytes are random; what they are of, and how many, is not.
TEST(StoreWorkers, OfAnEncryptedStoreNumbersAndSizesAreTheSame) {
  const auto empty = NewStoreFiles(Encryption::kKey);
  std::map<std::string, size_t> first;
  for (const ChunkPipeline::Options& pipeline : kPipelines) {
    const auto files = empty->After(Cut::kKilled);
    const auto store = OpenTuned(files, TuningOf(pipeline));
    const store_test::Snapshot parent = WriteLarge(*store, 1, nullptr);
    ASSERT_NO_FATAL_FAILURE(ExpectReads(*store, parent));
    std::map<std::string, size_t> sizes;
    for (const auto& [path, bytes] : FilesOf(*files)) {
      if (path.starts_with("packs/")) {
        sizes[path] = bytes.size();
      }
    }
    first = first.empty() ? sizes : first;
    EXPECT_EQ(sizes, first);
    ExpectWhole(*store, 1);
  }
}

TEST(StoreWorkers, AWriterThatIsCalledOffLeavesNothing) {
  const auto files = NewStoreFiles();
  const auto store = OpenTuned(files, TuningOf({.workers = 2}));
  const store_test::Snapshot parent = WriteLarge(*store, 1, nullptr);
  const auto before = FilesOf(*files);
  for (uint64_t blocks = 1; blocks < 3000; blocks += 211) {
    {
      auto writer = store->Begin(parent.id, parent.spaces).value();
      for (uint64_t i = 0; i < blocks; ++i) {
        ASSERT_TRUE(writer->Add(0, BlockIndex(i), BlockOf(70'000 + i)).ok());
      }
    }
    ASSERT_TRUE(FilesOf(*files) == before) << blocks << " blocks";
  }
  const store_test::Snapshot next = WriteLarge(*store, 2, &parent);
  ExpectReads(*store, next);
  ExpectWhole(*store, 2);
}

// Each call of the disk in turn, most of them by the thread that writes.
TEST(StoreWorkers, AFailureOnTheWritersThreadIsReportedAndNothingIsCommitted) {
  bool failed = true;
  for (uint64_t n = 0; failed; ++n) {
    SCOPED_TRACE("call " + std::to_string(n));
    const auto files = NewStoreFiles();
    const auto store = OpenTuned(files, {.pack_bytes = 3'000'000, .pipeline = {.workers = 2}});
    bool committed = false;
    {
      auto writer = store->Begin(std::nullopt, {SpaceOf("memory", 2000)}).value();
      files->FailAfter(n, ENOSPC);
      Status given;
      for (uint64_t i = 0; i < 2000 && given.ok(); ++i) {
        given = writer->Add(0, BlockIndex(i), BlockOf(3 * i + 1));
      }
      // Once it has failed it takes nothing more.
      EXPECT_TRUE(given.ok() || !writer->Add(0, BlockIndex(0), BlockOf(1)).ok());
      committed = writer->Commit(DraftOf(1), {}).ok();
      failed = files->failed();
      EXPECT_TRUE(committed || failed);
      files->FailAfter(UINT64_MAX / 2, 0);
    }
    EXPECT_EQ(store->List().value().size(), committed ? 1u : 0u);
    store_test::Snapshot again = WriteLarge(*store, 5, nullptr);
    ExpectReads(*store, again);
    ExpectWhole(*store, committed ? 2u : 1u);
  }
}

// Says how far the giver was ahead.
class SlowFile : public StoreFile {
 public:
  Result<uint64_t> SizeBytes() override { return written.size(); }
  Status ReadAt(uint64_t, std::span<uint8_t>) override {
    return Error::Make(ErrorCode::kUnsupported, "not read");
  }
  Status Append(std::span<const uint8_t> bytes) override {
    for (int i = 0; i < 100; ++i) {
      std::this_thread::yield();
    }
    most_ahead = std::max(most_ahead, given.load() - pieces);
    ++pieces;
    written.insert(written.end(), bytes.begin(), bytes.end());
    return pieces == fails_at ? Status(Error::Make(ErrorCode::kIo, "broken")) : Status();
  }
  Status Sync() override { return {}; }

  std::atomic<uint64_t> given = 0;
  uint64_t pieces = 0;
  uint64_t most_ahead = 0;
  uint64_t fails_at = 0;
  std::vector<uint8_t> written;
};

TEST(WriteBehindTest, WritesInOrderAndNoMoreWaitsThanItSays) {
  SlowFile file;
  WriteBehind behind;
  std::vector<uint8_t> expected;
  for (uint8_t i = 0; i < 200; ++i) {
    std::vector<uint8_t> piece(i + 1u, i);
    expected.insert(expected.end(), piece.begin(), piece.end());
    ASSERT_TRUE(behind.Append(file, piece).ok());
    EXPECT_TRUE(piece.empty());
    ++file.given;
  }
  ASSERT_TRUE(behind.Drain().ok());
  EXPECT_EQ(file.written, expected);
  // Those that wait, and the one that is being written.
  EXPECT_LE(file.most_ahead, WriteBehind::kMostQueued + 1);
}

TEST(WriteBehindTest, NothingIsWrittenAfterAFailureUntilItIsDiscarded) {
  SlowFile file;
  file.fails_at = 3;
  WriteBehind behind;
  Status given;
  for (int i = 0; i < 50 && given.ok(); ++i) {
    std::vector<uint8_t> piece(10, static_cast<uint8_t>(i));
    given = behind.Append(file, piece);
  }
  EXPECT_THAT(MessageOf(given), HasSubstr("broken"));
  EXPECT_THAT(MessageOf(behind.Drain()), HasSubstr("broken"));
  EXPECT_EQ(file.pieces, 3u);
  behind.Discard();
  std::vector<uint8_t> piece(10, 99);
  ASSERT_TRUE(behind.Append(file, piece).ok());
  ASSERT_TRUE(behind.Drain().ok());
  EXPECT_EQ(file.pieces, 4u);
  EXPECT_EQ(file.written.back(), 99);
}

// Time goes by when somebody sleeps, and only then.
struct LimitedStore {
  explicit LimitedStore(uint64_t bytes_per_second)
      : files(LimitWrites(memory, bytes_per_second,
                          {.now_ns = [this] { return now_ns.load(); },
                           .sleep = [this](uint64_t ns) { now_ns += ns; }})) {}

  std::atomic<uint64_t> now_ns = 1;
  std::shared_ptr<MemoryStoreFiles> memory = NewStoreFiles();
  std::shared_ptr<StoreFiles> files;
};

TEST(LimitedFilesTest, NoMoreIsWrittenThanTheRateAllows) {
  constexpr uint64_t kRate = 1'000'000;
  LimitedStore limited(kRate);
  const uint64_t before = limited.memory->appended_bytes();
  const auto store = OpenTuned(limited.files, TuningOf({.workers = 2}));
  const store_test::Snapshot snapshot = WriteLarge(*store, 1, nullptr);
  ExpectReads(*store, snapshot);
  const uint64_t written = limited.memory->appended_bytes() - before;
  const uint64_t elapsed_ns = limited.now_ns - 1;
  // Beyond the rate: what a tenth of a second brings at the start, and one taking of as much.
  EXPECT_LE(written, kRate * elapsed_ns / 1'000'000'000 + 2 * kRate / 10);
  EXPECT_GT(written, 4 * kRate);
}

TEST(LimitedFilesTest, NobodyWaitsLongerThanTheRateAsksFor) {
  constexpr uint64_t kRate = 1'000'000;
  LimitedStore limited(kRate);
  const auto file = limited.files->CreateFile("file").value();
  uint64_t written = 0;
  for (const size_t bytes : {1u, 700'000u, 100'000u, 99'999u, 3'000'000u}) {
    ASSERT_TRUE(file->Append(std::vector<uint8_t>(bytes)).ok());
    written += bytes;
    EXPECT_GE(written, kRate * (limited.now_ns - 1) / 1'000'000'000);
  }
  EXPECT_EQ(file->SizeBytes().value(), written);
}

TEST(LimitedFilesTest, AllOtherCallsPass) {
  LimitedStore limited(1);
  ASSERT_TRUE(limited.files->CreateDirectory("more").ok());
  { ASSERT_TRUE(limited.files->CreateFile("more/a").ok()); }
  ASSERT_TRUE(limited.files->Rename("more/a", "more/b").ok());
  EXPECT_EQ(limited.files->List("more").value(), std::vector<std::string>{"b"});
  EXPECT_TRUE(limited.files->Overwrite("more/b").ok());
  EXPECT_TRUE(limited.files->OpenForRead("more/b").ok());
  EXPECT_TRUE(limited.files->Remove("more/b").ok());
  EXPECT_TRUE(limited.files->SyncDirectory("more").ok());
  EXPECT_EQ(limited.files->name(), limited.memory->name());
  const auto lock = limited.files->AcquireLock("lock", StoreFiles::LockMode::kExclusive, "me");
  ASSERT_TRUE(lock.ok());
  EXPECT_FALSE(limited.files->AcquireLock("lock", StoreFiles::LockMode::kExclusive, "you").ok());
  EXPECT_EQ(limited.now_ns, 1u);
}

}  // namespace
}  // namespace pacsvisor
