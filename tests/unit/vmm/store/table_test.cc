#include "vmm/store/table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/support/memory_store_files.h"
#include "vmm/store/entry_source.h"
#include "vmm/store/pending_blocks.h"
#include "vmm/store/store_format.h"
#include "vmm/store/table_writer.h"

namespace pacsvisor {
namespace {

constexpr TablePaging kSmallPages = {.entry_page_bytes = 150, .links_per_page = 3};

TableEntry ChunkEntry(uint64_t key, uint32_t number) {
  TableEntry entry{.first = key, .count = 1, .kind = BlockKind::kChunk};
  entry.place = {1 + number % 3, 64 + number * 4096,
                 static_cast<uint16_t>(number % 2 == 0 ? kStoreBlockBytes : 1 + number % 3000)};
  StoreLe(entry.chunk.name.data(), number);
  return entry;
}

// What a table says, key by key.
using Oracle = std::map<uint64_t, TableEntry>;

// Chunks and runs of zeroes at random keys of two spaces.
std::vector<TableEntry> RandomEntries(std::mt19937_64& random, size_t count) {
  std::vector<TableEntry> entries;
  uint64_t key = random() % 5;
  for (size_t i = 0; i < count; ++i) {
    if (i == count / 2) {
      key = TableKey(3, random() % 5);
    }
    if (random() % 3 == 0) {
      const uint64_t run = 1 + random() % 4;
      entries.push_back({.first = key, .count = run, .kind = BlockKind::kZero});
      key += run + 1;  // a gap, so that no two runs become one
    } else {
      entries.push_back(ChunkEntry(key, static_cast<uint32_t>(random() % 500)));
      key += 1;
    }
    key += random() % 4 == 0 ? random() % 9 : 0;
  }
  return entries;
}

void Overlay(Oracle& oracle, const std::vector<TableEntry>& entries) {
  for (TableEntry entry : entries) {
    for (const uint64_t end = entry.end(); entry.first < end; ++entry.first) {
      entry.count = 1;
      oracle[entry.first] = entry;
    }
  }
}

std::shared_ptr<Table> TableOf(MemoryStoreFiles& files, const std::string& path,
                               const std::vector<TableEntry>& entries) {
  TableWriter writer(files.CreateFile(path).value(), kSmallPages);
  for (const TableEntry& entry : entries) {
    EXPECT_TRUE(writer.Add(entry).ok());
  }
  return Table::Open(files, path, writer.Finish(true).value()).value();
}

std::vector<TableEntry> AllOf(EntrySource& source) {
  std::vector<TableEntry> entries;
  for (TableEntry entry; source.Next(entry).value();) {
    entries.push_back(entry);
  }
  return entries;
}

void ExpectSame(const Oracle& oracle, const std::vector<TableEntry>& entries) {
  Oracle found;
  Overlay(found, entries);
  EXPECT_EQ(found, oracle);
  for (size_t i = 1; i < entries.size(); ++i) {
    ASSERT_GE(entries[i].first, entries[i - 1].end());
  }
}

TEST(TableTest, ATableOfManyLevelsAnswersForEveryKey) {
  std::mt19937_64 random(1);
  for (const size_t count : {1u, 2u, 5u, 30u, 500u}) {
    const auto files = MemoryStoreFiles::Create();
    const std::vector<TableEntry> entries = RandomEntries(random, count);
    const std::shared_ptr<Table> table = TableOf(*files, "table", entries);
    TableSource source(table);
    EXPECT_EQ(AllOf(source), entries);
    Oracle oracle;
    Overlay(oracle, entries);
    for (const uint32_t space : {0u, 1u, 3u}) {
      for (uint64_t block = 0; block < 4 * count + 10; ++block) {
        const uint64_t key = TableKey(space, block);
        const TableAnswer answer = table->Find(key).value();
        const auto expected = oracle.find(key);
        if (expected == oracle.end()) {
          ASSERT_EQ(answer.kind, BlockKind::kNone);
          ASSERT_TRUE(oracle.lower_bound(key) == oracle.lower_bound(answer.end - 1));
        } else {
          ASSERT_EQ(answer.kind, expected->second.kind);
          ASSERT_EQ(answer.place, expected->second.place);
          ASSERT_EQ(answer.chunk, expected->second.chunk);
        }
        ASSERT_GT(answer.end, key);
      }
    }
  }
}

TEST(TableTest, NeighbouringZeroesOfASpaceBecomeOneRun) {
  const auto files = MemoryStoreFiles::Create();
  const uint64_t last = TableKey(1, 0) - 2;
  const std::shared_ptr<Table> table =
      TableOf(*files, "table",
              {{.first = 4, .count = 2, .kind = BlockKind::kZero},
               {.first = 6, .count = 1, .kind = BlockKind::kZero},
               {.first = last, .count = 2, .kind = BlockKind::kZero},
               {.first = last + 2, .count = 1, .kind = BlockKind::kZero}});
  TableSource source(table);
  const std::vector<TableEntry> entries = AllOf(source);
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].count, 3u);
  EXPECT_EQ(entries[1].end(), TableKey(1, 0));
}

TEST(TableTest, MergingKeepsTheNewestOfEachKey) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::mt19937_64 random(seed);
    const auto files = MemoryStoreFiles::Create();
    Oracle oracle;
    std::vector<std::unique_ptr<EntrySource>> sources;
    for (int i = 0; i < 6; ++i) {  // oldest first
      const std::vector<TableEntry> entries = RandomEntries(random, 1 + random() % 60);
      Overlay(oracle, entries);
      sources.insert(sources.begin(),
                     std::make_unique<TableSource>(TableOf(*files, std::to_string(i), entries)));
    }
    MergedSource merged(std::move(sources));
    ASSERT_NO_FATAL_FAILURE(ExpectSame(oracle, AllOf(merged))) << seed;
  }
}

TEST(TableTest, PendingBlocksComeOutInOrderAndTheLastOfEach) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    Oracle oracle;
    PendingBlocks pending;
    const uint64_t steps = random() % 60;
    for (uint64_t i = 0; i < steps; ++i) {
      const uint64_t key = random() % 40;
      if (random() % 3 == 0) {
        const uint64_t count = 1 + random() % 12;
        pending.AddZeroes(key, count);
        Overlay(oracle, {{.first = key, .count = count, .kind = BlockKind::kZero}});
      } else {
        const TableEntry entry = ChunkEntry(key, static_cast<uint32_t>(i));
        pending.AddChunk(key, entry.chunk, entry.place);
        Overlay(oracle, {entry});
      }
    }
    ASSERT_NO_FATAL_FAILURE(ExpectSame(oracle, AllOf(*pending.Take()))) << seed;
    EXPECT_EQ(pending.size(), 0u);
  }
}

TEST(TableTest, ALookUpInAnOpenTableReadsOnePageALevelAtMost) {
  std::mt19937_64 random(1);
  const auto files = MemoryStoreFiles::Create();
  const std::shared_ptr<Table> table = TableOf(*files, "table", RandomEntries(random, 400));
  for (uint64_t block = 0; block < 400; block += 7) {
    const uint64_t before = files->calls();
    ASSERT_TRUE(table->Find(block).ok());
    EXPECT_LE(files->calls() - before, table->root()->level);
    const uint64_t again = files->calls();
    ASSERT_TRUE(table->Find(block).ok());
    EXPECT_EQ(files->calls(), again);
  }
}

}  // namespace
}  // namespace pacsvisor
