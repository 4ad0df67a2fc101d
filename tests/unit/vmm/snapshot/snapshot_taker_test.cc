#include "vmm/snapshot/snapshot_taker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/memory_store_files.h"
#include "tests/unit/vmm/snapshot/fake_subject.h"
#include "vmm/snapshot/page_staging.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor::snapshot_test {
namespace {

constexpr uint64_t kPages = 3000;

class CountingObserver : public CaptureObserver {
 public:
  void OnProgress(CapturePhase phase, uint64_t, uint64_t) override {
    last_phase = phase;
    ++calls;
  }
  bool cancelled() const override { return calls >= cancel_after; }

  CapturePhase last_phase = CapturePhase::kCopying;
  uint64_t calls = 0;
  uint64_t cancel_after = ~uint64_t{0};
};

class SnapshotTakerTest : public testing::Test {
 protected:
  SnapshotTakerTest() {
    EXPECT_TRUE(Store::Create(*files_).ok());
    store_ = Store::Open(files_).value();
    taker_ = std::make_unique<SnapshotTaker>(subject_, *store_);
  }

  Result<TakenSnapshot> Take() { return taker_->Take(order_, observer_); }

  // Byte for byte, from a store opened anew.
  void ExpectHolds(const SnapshotId& id, const std::vector<uint8_t>& memory,
                   const std::vector<std::vector<uint8_t>>& disks) {
    const std::unique_ptr<Store> store = Store::Open(files_).value();
    const std::unique_ptr<SnapshotReader> reader = store->OpenSnapshot(id).value();
    ExpectSpace(*reader, 0, memory);
    for (uint32_t i = 0; i < disks.size(); ++i) {
      ExpectSpace(*reader, i + 1, disks[i]);
    }
  }
  void ExpectLast(const SnapshotId& id) {
    ExpectHolds(id, subject_.memory_at_instant, subject_.disks_at_instant);
  }
  static void ExpectSpace(SnapshotReader& reader, uint32_t space,
                          const std::vector<uint8_t>& expected) {
    std::vector<uint8_t> read(expected.size());
    const Status status = reader.Read(space, BlockIndex(0), read);
    ASSERT_TRUE(status.ok()) << status.error().message();
    EXPECT_TRUE(read == expected) << "space " << space;
  }

  std::shared_ptr<MemoryStoreFiles> files_ = MemoryStoreFiles::Create();
  FakeSubject subject_{kPages};
  std::unique_ptr<Store> store_;
  std::unique_ptr<SnapshotTaker> taker_;
  SnapshotOrder order_{.machine = "pacs"};
  CountingObserver observer_;
};

TEST_F(SnapshotTakerTest, FirstHoldsEveryByteAndTheState) {
  FakeDisk& disk = subject_.AddDisk(100 * 4096 + 512);
  subject_.GuestWrites(17, 3);
  disk.WriteBlock(5, 9);
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  ExpectLast(taken->info.id);
  const auto reader = store_->OpenSnapshot(taken->info.id).value();
  const StateNode state = DecodeState(reader->State().value()).value();
  EXPECT_EQ(state.U64("count").value(), 1u);
  EXPECT_EQ(reader->info().spaces[1].size_bytes, 100u * 4096 + 512);
}

TEST_F(SnapshotTakerTest, WhatIsWrittenBehindTheReadersBackIsThere) {
  std::mt19937 random(1);
  subject_.memory_space.before_read = [&] {
    if (random() % 16 == 0) {
      subject_.GuestWrites(random() % kPages, static_cast<uint8_t>(random()));
      subject_.VmmWrites(random() % kPages, static_cast<uint8_t>(random()));
    }
  };
  subject_.before_instant = [&] { subject_.memory_space.before_read = nullptr; };
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  ExpectLast(taken->info.id);
}

TEST_F(SnapshotTakerTest, ChainOfIncrementsEqualsTheMachineAtEachInstant) {
  FakeDisk& disk = subject_.AddDisk(64 * 4096);
  subject_.AddDisk(4096);
  std::mt19937 random(7);
  struct Taken {
    SnapshotId id;
    std::vector<uint8_t> memory;
    std::vector<std::vector<uint8_t>> disks;
  };
  std::vector<Taken> all;
  for (int epoch = 0; epoch < 12; ++epoch) {
    for (int i = 0; i < 200; ++i) {
      subject_.GuestWrites(random() % kPages, static_cast<uint8_t>(random() % 3));
      subject_.VmmWrites(random() % kPages, static_cast<uint8_t>(random() % 3));
      disk.WriteBlock(random() % 64, static_cast<uint8_t>(random() % 3));
    }
    // The machine goes on between the last round and the pause, and after it.
    subject_.before_instant = [&] { subject_.GuestWrites(random() % kPages, 77); };
    subject_.after_instant = [&] {
      subject_.GuestWrites(random() % kPages, 78);
      disk.WriteBlock(random() % 64, 79);
    };
    const Result<TakenSnapshot> taken = Take();
    ASSERT_TRUE(taken.ok()) << taken.error().message();
    all.push_back({taken->info.id, subject_.memory_at_instant, subject_.disks_at_instant});
  }
  for (const Taken& one : all) {
    ExpectHolds(one.id, one.memory, one.disks);
  }
}

TEST_F(SnapshotTakerTest, AnIncrementReadsOnlyWhatChanged) {
  ASSERT_TRUE(Take().ok());
  uint64_t reads = 0;
  subject_.memory_space.before_read = [&] { ++reads; };
  subject_.GuestWrites(1, 1);
  subject_.VmmWrites(2999, 1);
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(reads, 2u);
  EXPECT_EQ(taken->info.draft.figures.at("memory_dirty_bytes"), 2u * 4096);
  EXPECT_EQ(taken->info.counts.fresh + taken->info.counts.known, 2u);
}

TEST_F(SnapshotTakerTest, ParentIsTheOneBefore) {
  const Result<TakenSnapshot> first = Take();
  const Result<TakenSnapshot> second = Take();
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->info.parent, first->info.id);
  EXPECT_FALSE(first->info.parent.has_value());
}

TEST_F(SnapshotTakerTest, ANewLifeOfAMachineCostsOnlyWhatItChanged) {
  std::mt19937 random(3);
  for (uint64_t page = 0; page < kPages; ++page) {
    subject_.GuestWrites(page, static_cast<uint8_t>(page % 251 + 1));
  }
  ASSERT_TRUE(Take().ok());
  SnapshotTaker next(subject_, *store_);
  subject_.GuestWrites(4, 255);
  const Result<TakenSnapshot> taken = next.Take(order_, observer_);
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  EXPECT_TRUE(taken->info.parent.has_value());
  EXPECT_EQ(taken->info.counts.fresh, 1u);
  EXPECT_EQ(taken->info.counts.unchanged, kPages - 1);
  ExpectLast(taken->info.id);
}

TEST_F(SnapshotTakerTest, FullStagingIsDrainedAndTheLastCopyCounts) {
  ASSERT_TRUE(Take().ok());
  order_.staging_bytes = 4096;  // the least there is: a thousand pages
  for (uint64_t page = 0; page < kPages; ++page) {
    subject_.GuestWrites(page, 1);
  }
  int reads = 0;
  subject_.memory_space.before_read = [&] {
    if (++reads % 2 == 0) {
      subject_.GuestWrites(static_cast<uint64_t>(reads) * 13 % kPages, static_cast<uint8_t>(reads));
    }
  };
  subject_.before_instant = [&] { subject_.memory_space.before_read = nullptr; };
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  EXPECT_GT(taken->info.draft.figures.at("rounds"), 1u);
  ExpectLast(taken->info.id);
}

TEST_F(SnapshotTakerTest, AGuestThatDirtiesAsFastAsItCanIsNotChasedForEver) {
  ASSERT_TRUE(Take().ok());
  uint64_t next = 0;
  subject_.memory_space.before_read = [&] { subject_.GuestWrites(next++ * 7 % kPages, 5); };
  for (uint64_t page = 0; page < kPages; ++page) {
    subject_.GuestWrites(page, 2);
  }
  subject_.before_instant = [&] { subject_.memory_space.before_read = nullptr; };
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok());
  EXPECT_LE(taken->info.draft.figures.at("rounds"), 8u);
  ExpectLast(taken->info.id);
}

TEST_F(SnapshotTakerTest, ADiskThatHangsIsWaitedForAndMayBeCalledOff) {
  FakeDisk& disk = subject_.AddDisk(64 * 4096);
  disk.late_reads = 3;
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  ExpectLast(taken->info.id);
  disk.WriteBlock(1, 1);
  disk.late_reads = 1'000'000;
  subject_.after_instant = [&] { observer_.cancel_after = observer_.calls + 1; };
  const Result<TakenSnapshot> none = Take();
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code(), ErrorCode::kCancelled);
}

// Owed bits: whatever fails, the next snapshot holds what this one took.
struct Failure {
  const char* name;
  void (*arrange)(FakeSubject& subject, CountingObserver& observer);
  void (*undo)(FakeSubject& subject, CountingObserver& observer);
};

class OwedBits : public SnapshotTakerTest, public testing::WithParamInterface<Failure> {};

INSTANTIATE_TEST_SUITE_P(
    Steps, OwedBits,
    testing::Values(
        Failure{"FirstHarvest",
                [](FakeSubject& s, CountingObserver&) { s.source->fail_harvests = 1; },
                [](FakeSubject&, CountingObserver&) {}},
        Failure{"HarvestInThePause",
                [](FakeSubject& s, CountingObserver&) { s.source->fail_harvests = 3; },
                [](FakeSubject&, CountingObserver&) {}},
        Failure{"State", [](FakeSubject& s, CountingObserver&) { s.fail_state = true; },
                [](FakeSubject& s, CountingObserver&) { s.fail_state = false; }},
        Failure{"Layer",
                [](FakeSubject& s, CountingObserver&) { s.disk_spaces[0].fail_prepare = true; },
                [](FakeSubject& s, CountingObserver&) { s.disk_spaces[0].fail_prepare = false; }},
        Failure{"DiskRead",
                [](FakeSubject& s, CountingObserver&) { s.disk_spaces[0].fail_read = true; },
                [](FakeSubject& s, CountingObserver&) { s.disk_spaces[0].fail_read = false; }},
        Failure{"CalledOff",
                [](FakeSubject&, CountingObserver& o) { o.cancel_after = o.calls + 2; },
                [](FakeSubject&, CountingObserver& o) { o.cancel_after = ~uint64_t{0}; }}),
    [](const testing::TestParamInfo<Failure>& one) { return one.param.name; });

TEST_P(OwedBits, AreInTheNextSnapshot) {
  FakeDisk& disk = subject_.AddDisk(64 * 4096);
  ASSERT_TRUE(Take().ok());
  for (uint64_t page = 0; page < kPages; page += 3) {
    subject_.GuestWrites(page, 11);
    subject_.VmmWrites(page + 1, 12);
  }
  disk.WriteBlock(3, 13);
  subject_.before_instant = [&] {
    subject_.GuestWrites(2, 14);
    disk.WriteBlock(4, 15);
  };
  GetParam().arrange(subject_, observer_);
  const Result<TakenSnapshot> failed = Take();
  ASSERT_FALSE(failed.ok());
  EXPECT_FALSE(disk.prepared && !disk.fail_prepare) << "a view is left open";
  disk.prepared = false;
  GetParam().undo(subject_, observer_);
  subject_.before_instant = nullptr;
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  ExpectLast(taken->info.id);
  EXPECT_EQ(store_->List().value().size(), 2u);
}

// Each call to the host's file system fails once, at a snapshot that has something to say.
TEST_F(SnapshotTakerTest, AStoreThatFailsAtAnyCallOwesNothing) {
  ASSERT_TRUE(Take().ok());
  for (uint64_t n = 0;; ++n) {
    for (uint64_t page = n % 7; page < kPages; page += 97) {
      subject_.GuestWrites(page, static_cast<uint8_t>(n));
    }
    files_->FailAfter(n, ENOSPC);
    const Result<TakenSnapshot> taken = Take();
    if (!files_->failed()) {
      ASSERT_TRUE(taken.ok()) << taken.error().message();
      EXPECT_GT(n, 10u) << "so few calls make no snapshot";
      return;
    }
    const Result<TakenSnapshot> next = Take();
    ASSERT_TRUE(next.ok()) << "after call " << n << ": " << next.error().message();
    ExpectLast(next->info.id);
  }
}

TEST(PageStaging, KeepsTheLatestCopyInOrderAndGrows) {
  PageStaging staging(5000);
  for (uint64_t round = 1; round <= 2; ++round) {
    for (uint64_t page = 4999; page > 3000; --page) {
      const std::span<uint8_t> place = staging.PlaceFor(BlockIndex(page)).value();
      std::fill(place.begin(), place.end(), static_cast<uint8_t>(page * round));
    }
  }
  EXPECT_EQ(staging.size(), 1999u);
  uint64_t expected = 3001;
  const auto visit = [&](BlockIndex page, std::span<const uint8_t> bytes) -> Status {
    EXPECT_EQ(page.raw(), expected++);
    EXPECT_EQ(bytes[0], static_cast<uint8_t>(page.raw() * 2));
    EXPECT_EQ(bytes[4095], bytes[0]);
    return {};
  };
  ASSERT_TRUE(staging.ForEach(visit).ok());
  staging.Clear();
  EXPECT_EQ(staging.size(), 0u);
  EXPECT_GE(staging.room(), 1999u);
}

}  // namespace
}  // namespace pacsvisor::snapshot_test
