#include "vmm/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "tests/support/temporary_directory.h"
#include "tests/unit/vmm/store/store_model.h"

namespace pacsvisor {
namespace {

using store_test::BlockOf;
using store_test::Commit;
using store_test::DraftOf;
using store_test::ExpectReads;
using store_test::ExpectWhole;
using store_test::MessageOf;
using store_test::NewStoreFiles;
using store_test::OpenTuned;
using store_test::SpaceOf;
using store_test::Values;
using testing::HasSubstr;

store_test::Snapshot OneSpace(Values values) {
  store_test::Snapshot snapshot;
  snapshot.spaces = {SpaceOf("memory", values.size())};
  snapshot.values = {std::move(values)};
  snapshot.state = {1, 2, 3};
  return snapshot;
}

// As by a copy that leaves empty directories behind.
TEST(StoreTest, OneWithoutItsTmpIsWrittenToAsAnyOther) {
  const TemporaryDirectory directory;
  const auto files = StoreFiles::OpenDirectory(directory.path().string()).value();
  ASSERT_TRUE(Store::Create(*files).ok());
  std::filesystem::remove(directory.path() / "tmp");
  const auto store = OpenTuned(files);
  store_test::Snapshot snapshot = OneSpace({5, 0, 6});
  const Status committed = Commit(*store, nullptr, snapshot, 1);
  ASSERT_TRUE(committed.ok()) << MessageOf(committed);
  ExpectReads(*store, snapshot);
}

TEST(StoreTest, ASnapshotReadsBackFromADirectory) {
  const TemporaryDirectory directory;
  const auto files = StoreFiles::OpenDirectory(directory.path().string()).value();
  ASSERT_TRUE(Store::Create(*files).ok());
  store_test::Snapshot snapshot = OneSpace({5, 0, 0, 6, 7, 5});
  {
    const auto store = Store::Open(files).value();
    const Status committed = Commit(*store, nullptr, snapshot, 1);
    ASSERT_TRUE(committed.ok()) << MessageOf(committed);
  }
  const auto store = Store::Open(files).value();
  ExpectReads(*store, snapshot);
  ExpectWhole(*store, 1);
}

TEST(StoreTest, AChildNeedsOnlyWhatChanged) {
  const auto store = OpenTuned(NewStoreFiles());
  store_test::Snapshot first = OneSpace({5, 0, 0, 6, 7, 5});
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  store_test::Snapshot second = OneSpace({5, 8, 0, 0, 7, 7});
  const Status committed = Commit(*store, &first, second, 2);
  ASSERT_TRUE(committed.ok()) << MessageOf(committed);
  ExpectReads(*store, first);
  ExpectReads(*store, second);
  ExpectWhole(*store, 2);
}

TEST(StoreTest, TheRecordOfASnapshotComesBack) {
  const auto files = NewStoreFiles();
  const auto store = OpenTuned(files);
  store_test::Snapshot first = OneSpace({1});
  ASSERT_TRUE(Commit(*store, nullptr, first, 7).ok());
  store_test::Snapshot second = OneSpace({2});
  ASSERT_TRUE(Commit(*store, &first, second, 9).ok());
  const std::vector<SnapshotInfo> infos = OpenTuned(files)->List().value();
  ASSERT_EQ(infos.size(), 2u);
  EXPECT_EQ(infos[0].id, first.id);
  EXPECT_EQ(infos[0].parent, std::nullopt);
  EXPECT_EQ(infos[1].parent, first.id);
  EXPECT_EQ(infos[1].draft.machine, "pacs");
  EXPECT_EQ(infos[1].draft.message, "number 9");
  EXPECT_EQ(infos[1].draft.instant_ns, 9u);
  EXPECT_EQ(infos[1].draft.texts, DraftOf(9).texts);
  EXPECT_EQ(infos[1].draft.figures, DraftOf(9).figures);
  EXPECT_EQ(infos[1].spaces, second.spaces);
  EXPECT_EQ(infos[1].counts.fresh, 1u);
  EXPECT_EQ(infos[1].state_bytes, 3u);
}

TEST(StoreTest, WhatBecameOfEachBlockIsCounted) {
  const auto store = OpenTuned(NewStoreFiles());
  store_test::Snapshot first = OneSpace({1, 2, 3, 4});
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  auto writer = store->Begin(first.id, first.spaces).value();
  ASSERT_TRUE(writer->Add(0, BlockIndex(0), BlockOf(1)).ok());  // unchanged
  ASSERT_TRUE(writer->Add(0, BlockIndex(1), BlockOf(4)).ok());  // known from the parent
  ASSERT_TRUE(writer->Add(0, BlockIndex(2), BlockOf(0)).ok());  // zero
  ASSERT_TRUE(writer->Add(0, BlockIndex(3), BlockOf(9)).ok());  // fresh
  ASSERT_TRUE(writer->Add(0, BlockIndex(2), BlockOf(9)).ok());  // known from this one
  ASSERT_TRUE(writer->AddZeroes(0, BlockIndex(0), 2).ok());
  ASSERT_TRUE(writer->Flush().ok());
  const WriterCounts counts = writer->counts();
  EXPECT_EQ(counts.given, 7u);
  EXPECT_EQ(counts.zero, 3u);
  EXPECT_EQ(counts.unchanged, 1u);
  EXPECT_EQ(counts.known, 2u);
  EXPECT_EQ(counts.fresh, 1u);
  EXPECT_EQ(counts.fresh_bytes, 4096u);
  store_test::Snapshot second = OneSpace({0, 0, 9, 9});
  second.id = writer->Commit(DraftOf(2), second.state).value().id;
  ExpectReads(*store, second);
}

TEST(StoreTest, TheBytesWrittenAreCountedExactly) {
  const auto files = NewStoreFiles();
  const auto store = OpenTuned(files);
  const uint64_t before = files->appended_bytes();
  store_test::Snapshot first = OneSpace({1, 2, 3, 0, 4});
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  EXPECT_EQ(store->List().value()[0].counts.stored_bytes, files->appended_bytes() - before);
}

TEST(StoreTest, OfABlockGivenTwiceTheLastCounts) {
  const auto store = OpenTuned(NewStoreFiles());
  store_test::Snapshot first = OneSpace({1, 2, 3, 0, 0});
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  auto writer = store->Begin(first.id, first.spaces).value();
  ASSERT_TRUE(writer->Add(0, BlockIndex(0), BlockOf(7)).ok());
  ASSERT_TRUE(writer->Add(0, BlockIndex(1), BlockOf(8)).ok());
  ASSERT_TRUE(writer->Add(0, BlockIndex(3), BlockOf(8)).ok());
  ASSERT_TRUE(writer->AddZeroes(0, BlockIndex(2), 2).ok());
  ASSERT_TRUE(writer->Add(0, BlockIndex(0), BlockOf(1)).ok());  // as in the parent again
  ASSERT_TRUE(writer->Add(0, BlockIndex(1), BlockOf(9)).ok());
  ASSERT_TRUE(writer->Add(0, BlockIndex(2), BlockOf(3)).ok());  // as in the parent, over zeroes
  store_test::Snapshot second = OneSpace({1, 9, 3, 0, 0});
  second.id = writer->Commit(DraftOf(2), second.state).value().id;
  ExpectReads(*store, second);
  ExpectWhole(*store, 2);
}

TEST(StoreTest, AWriterWithoutCommitLeavesNothing) {
  const auto files = NewStoreFiles();
  const auto store = OpenTuned(files, {.pack_bytes = 8192});
  const std::vector<std::string> before = files->Paths();
  {
    auto writer = store->Begin(std::nullopt, {SpaceOf("memory", 8)}).value();
    for (uint64_t i = 0; i < 8; ++i) {
      ASSERT_TRUE(writer->Add(0, BlockIndex(i), BlockOf(100 + i)).ok());
    }
  }
  EXPECT_EQ(files->Paths(), before);
  store_test::Snapshot next = OneSpace({100, 101, 102, 103});
  ASSERT_TRUE(Commit(*store, nullptr, next, 1).ok());
  ExpectReads(*store, next);
  ExpectWhole(*store, 1);
}

TEST(StoreTest, ANewSpaceHasToBeGivenWhole) {
  const auto store = OpenTuned(NewStoreFiles());
  store_test::Snapshot first = OneSpace({1, 2});
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  for (const uint64_t given : {3u, 4u}) {
    auto writer = store->Begin(first.id, {SpaceOf("memory", 4)}).value();  // another size
    ASSERT_TRUE(writer->AddZeroes(0, BlockIndex(0), given).ok());
    const Result<SnapshotInfo> committed = writer->Commit(DraftOf(2), {});
    EXPECT_EQ(committed.ok(), given == 4);
    if (!committed.ok()) {
      EXPECT_EQ(committed.error().code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(committed.error().message(), HasSubstr("has 4 blocks, 3 were given"));
    }
  }
  EXPECT_EQ(store->List().value().size(), 2u);
}

TEST(StoreTest, SpacesMayComeGoAndChangePlaces) {
  const auto store = OpenTuned(NewStoreFiles());
  store_test::Snapshot first;
  first.spaces = {SpaceOf("memory", 3), SpaceOf("disk0", 2), SpaceOf("disk1", 2)};
  first.values = {{1, 2, 3}, {4, 5}, {6, 0}};
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  store_test::Snapshot second;  // disk0 is gone, another takes its place
  second.spaces = {SpaceOf("disk1", 2), SpaceOf("disk2", 4), SpaceOf("memory", 3)};
  second.values = {{6, 7}, {0, 0, 8, 0}, {1, 0, 3}};
  ASSERT_TRUE(Commit(*store, &first, second, 2).ok());
  store_test::Snapshot third;
  third.spaces = {SpaceOf("disk0", 2), SpaceOf("memory", 3)};
  third.values = {{0, 5}, {1, 0, 9}};
  ASSERT_TRUE(Commit(*store, &second, third, 3).ok());
  for (const store_test::Snapshot& snapshot : {first, second, third}) {
    ExpectReads(*store, snapshot);
  }
  ExpectWhole(*store, 3);
}

TEST(StoreTest, ASecondWriterIsToldWhoIsWriting) {
  const TemporaryDirectory directory;
  const auto files = StoreFiles::OpenDirectory(directory.path().string()).value();
  ASSERT_TRUE(Store::Create(*files).ok());
  const auto first = Store::Open(files, "machine pacs").value();
  const auto second = Store::Open(files, "machine other").value();
  auto writer = first->Begin(std::nullopt, {SpaceOf("memory", 1)}).value();
  const auto refused = second->Begin(std::nullopt, {SpaceOf("memory", 1)});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(refused.error().message(),
              HasSubstr(fmt::format("pid {}, machine pacs", ::getpid())));
  writer.reset();
  EXPECT_TRUE(second->Begin(std::nullopt, {SpaceOf("memory", 1)}).ok());
}

TEST(StoreTest, WritersOfTwoStoreObjectsKnowEachOthersChunks) {
  const auto files = NewStoreFiles();
  const auto one = OpenTuned(files);
  const auto other = OpenTuned(files);
  store_test::Snapshot first = OneSpace({1, 2});
  ASSERT_TRUE(Commit(*one, nullptr, first, 1).ok());
  store_test::Snapshot second = OneSpace({2, 3});
  ASSERT_TRUE(Commit(*other, nullptr, second, 2).ok());
  store_test::Snapshot third = OneSpace({3, 1});
  ASSERT_TRUE(Commit(*one, nullptr, third, 3).ok());
  EXPECT_EQ(one->List().value()[1].counts.fresh, 1u);
  EXPECT_EQ(one->List().value()[2].counts.fresh, 0u);
  ExpectReads(*other, third);
}

TEST(StoreTest, TheIndexCanBeForgotten) {
  const auto store = OpenTuned(NewStoreFiles());
  store_test::Snapshot first = OneSpace({1, 2});
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  store->ForgetIndex();
  store_test::Snapshot second = OneSpace({2, 1});
  ASSERT_TRUE(Commit(*store, nullptr, second, 2).ok());
  EXPECT_EQ(store->List().value()[1].counts.known, 2u);
}

TEST(StoreTest, TheSameSnapshotTwiceIsOne) {
  const auto store = OpenTuned(NewStoreFiles());
  store_test::Snapshot first = OneSpace({0, 0});
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  store_test::Snapshot again = OneSpace({0, 0});
  ASSERT_TRUE(Commit(*store, nullptr, again, 1).ok());
  EXPECT_EQ(first.id, again.id);
  EXPECT_EQ(store->List().value().size(), 1u);
}

TEST(StoreTest, PrefixesResolveWhenTheyAreOfOne) {
  const auto files = NewStoreFiles();
  const auto store = OpenTuned(files);
  store_test::Snapshot only = OneSpace({1});
  ASSERT_TRUE(Commit(*store, nullptr, only, 1).ok());
  EXPECT_EQ(store->Resolve(only.id.Hex()).value(), only.id);
  EXPECT_EQ(store->Resolve(only.id.Hex().substr(0, 4)).value(), only.id);
  EXPECT_EQ(store->Resolve("abc").error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(store->Resolve("xyzw").error().code(), ErrorCode::kInvalidArgument);
  std::string missing = only.id.Hex().substr(0, 8);
  missing[7] = missing[7] == '0' ? '1' : '0';
  EXPECT_EQ(store->Resolve(missing).error().code(), ErrorCode::kNotFound);
  // A second one with the same beginning.
  const std::string twin =
      only.id.Hex().substr(0, 62) + (only.id.Hex().ends_with("00") ? "11" : "00");
  ASSERT_TRUE(files->CreateFile("snapshots/" + twin + ".snapshot").ok());
  const auto ambiguous = store->Resolve(only.id.Hex().substr(0, 8));
  ASSERT_FALSE(ambiguous.ok());
  EXPECT_EQ(ambiguous.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(ambiguous.error().message(), HasSubstr(only.id.Short()));
}

TEST(StoreTest, AFolderThatIsNoStoreIsNamed) {
  const auto opened = Store::Open(MemoryStoreFiles::Create());
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(opened.error().message(), HasSubstr("no snapshot store"));
  EXPECT_THAT(opened.error().message(), HasSubstr("pacsvisor makes a store"));
}

TEST(StoreTest, ANewerFormatIsUnsupported) {
  const auto files = NewStoreFiles();
  std::vector<uint8_t> header = files->Bytes("pacsvisor-store");
  header[8] = 2;
  files->SetBytes("pacsvisor-store", header);
  const auto opened = Store::Open(files);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kUnsupported);
}

TEST(StoreTest, AStoreIsMadeOnlyInAnEmptyDirectory) {
  const auto files = NewStoreFiles();
  EXPECT_EQ(Store::Create(*files).error().code(), ErrorCode::kBusy);
  const auto used = MemoryStoreFiles::Create();
  ASSERT_TRUE(used->CreateFile("letter.txt").ok());
  const Status refused = Store::Create(*used);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message(), HasSubstr("letter.txt"));
}

TEST(StoreTest, ChunksThatMovedAreFoundByTheirNames) {
  const auto files = NewStoreFiles();
  store_test::Snapshot first = OneSpace({1, 2});
  ASSERT_TRUE(Commit(*OpenTuned(files), nullptr, first, 1).ok());
  // The same chunks again in another pack, and the first pack gone.
  const auto twin_files = NewStoreFiles();
  store_test::Snapshot other = OneSpace({7, 1, 2});
  ASSERT_TRUE(Commit(*OpenTuned(twin_files), nullptr, other, 1).ok());
  store_test::Snapshot more = OneSpace({8, 9});
  ASSERT_TRUE(Commit(*OpenTuned(files), nullptr, more, 2).ok());
  files->SetBytes("packs/00000001.pack", twin_files->Bytes("packs/00000001.pack"));
  const auto store = OpenTuned(files);
  ExpectReads(*store, first);
  ExpectWhole(*store, 2);
}

TEST(StoreTest, ManyReadersAtATimeSeeTheSame) {
  const auto store = OpenTuned(NewStoreFiles());
  Values values(500);
  for (uint64_t i = 0; i < values.size(); ++i) {
    values[i] = i % 7 == 0 ? 0 : i;
  }
  store_test::Snapshot first = OneSpace(values);
  ASSERT_TRUE(Commit(*store, nullptr, first, 1).ok());
  for (uint64_t i = 0; i < values.size(); i += 3) {
    values[i] = 1000 + i;
  }
  store_test::Snapshot second = OneSpace(values);
  ASSERT_TRUE(Commit(*store, &first, second, 2).ok());
  const auto reader = store->OpenSnapshot(second.id).value();
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<uint8_t> bytes(3 * kStoreBlockBytes);
      for (uint64_t i = t; i + 3 <= values.size(); i += 2) {
        ASSERT_TRUE(reader->Read(0, BlockIndex(i), bytes).ok());
        const std::vector<uint8_t> block = BlockOf(values[i + 1]);
        ASSERT_EQ(std::memcmp(bytes.data() + kStoreBlockBytes, block.data(), block.size()), 0);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace
}  // namespace pacsvisor
