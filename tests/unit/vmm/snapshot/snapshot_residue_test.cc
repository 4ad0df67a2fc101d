// A guest that writes faster than its memory is copied: what is too much for the pause is protected
// and copied after it, and the snapshot is of the instant all the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/support/memory_store_files.h"
#include "tests/unit/vmm/snapshot/fake_protection.h"
#include "vmm/snapshot/residue_buffer.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor::snapshot_test {
namespace {

constexpr uint64_t kResidueTestPages = 1500;

class Observer : public CaptureObserver {
 public:
  void OnProgress(CapturePhase, uint64_t, uint64_t) override { ++calls; }
  bool cancelled() const override { return calls >= cancel_after; }

  uint64_t calls = 0;
  uint64_t cancel_after = ~uint64_t{0};
};

class SnapshotResidueTest : public testing::Test {
 protected:
  SnapshotResidueTest() {
    EXPECT_TRUE(Store::Create(*files_).ok());
    store_ = Store::Open(files_).value();
    taker_ = std::make_unique<SnapshotTaker>(subject_, *store_);
    protection_ = std::make_unique<FakeProtection>(subject_);
    EXPECT_TRUE(Take().ok());
  }

  Result<TakenSnapshot> Take() { return taker_->Take(order_, observer_); }

  // From now on it writes whenever there is time to.
  void WriteWithoutEnd(uint64_t writes_each) {
    const auto write = [this, writes_each] {
      for (uint64_t i = 0; i < writes_each; ++i) {
        // Half of it in runs, half of it anywhere.
        const uint64_t page =
            i % 2 == 0 ? next_++ % kResidueTestPages : random_() % kResidueTestPages;
        const auto value = static_cast<uint8_t>(random_());
        i % 5 == 0 ? subject_.VmmWrites(page, value) : subject_.GuestWrites(page, value);
      }
    };
    subject_.memory_space.before_read = [this, write] {
      if (!subject_.paused) {
        write();
      }
    };
    const auto write_much = [write] {
      for (int i = 0; i < 100; ++i) {
        write();
      }
    };
    protection_->on_arm = write;
    subject_.before_instant = write_much;
    subject_.after_instant = write_much;
    write_much();
  }
  void StandStill() {
    subject_.memory_space.before_read = nullptr;
    protection_->on_arm = nullptr;
    subject_.before_instant = nullptr;
    subject_.after_instant = nullptr;
  }
  void ExpectHolds(const SnapshotId& id, const std::vector<uint8_t>& memory) {
    const std::unique_ptr<Store> store = Store::Open(files_).value();
    const std::unique_ptr<SnapshotReader> reader = store->OpenSnapshot(id).value();
    std::vector<uint8_t> read(memory.size());
    ASSERT_TRUE(reader->Read(0, BlockIndex(0), read).ok());
    uint64_t different = 0;
    for (uint64_t page = 0; page < kResidueTestPages; ++page) {
      const auto at = static_cast<ptrdiff_t>(page * kTestBlockBytes);
      different +=
          std::equal(read.begin() + at, read.begin() + at + kTestBlockBytes, memory.begin() + at)
              ? 0
              : 1;
    }
    EXPECT_EQ(different, 0u);
  }

  std::shared_ptr<MemoryStoreFiles> files_ = MemoryStoreFiles::Create();
  FakeSubject subject_{kResidueTestPages};
  std::unique_ptr<Store> store_;
  std::unique_ptr<SnapshotTaker> taker_;
  std::unique_ptr<FakeProtection> protection_;
  SnapshotOrder order_{.machine = "pacs", .pause_budget_ns = 1};
  Observer observer_;
  std::mt19937_64 random_{5};
  uint64_t next_ = 0;
};

TEST_F(SnapshotResidueTest, EachIsTheMachineOfItsInstant) {
  std::map<SnapshotId, std::vector<uint8_t>> all;
  WriteWithoutEnd(5);
  for (int i = 0; i < 8; ++i) {
    const Result<TakenSnapshot> taken = Take();
    ASSERT_TRUE(taken.ok()) << taken.error().message();
    EXPECT_GT(taken->info.draft.figures.at("protected_pages"), 0u);
    EXPECT_EQ(taken->info.draft.texts.at("residue"), "protected");
    EXPECT_TRUE(protection_->pages().empty());
    all[taken->info.id] = subject_.memory_at_instant;
  }
  EXPECT_GT(protection_->written(), 0u);  // some were copied because they were written
  for (const auto& [id, memory] : all) {
    ExpectHolds(id, memory);
  }
}

TEST_F(SnapshotResidueTest, FullBuffersAreDrainedMeanwhile) {
  order_.staging_bytes = 64 * kTestBlockBytes;
  WriteWithoutEnd(5);
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  EXPECT_GT(taken->info.draft.figures.at("protected_pages"), 64u);
  ExpectHolds(taken->info.id, subject_.memory_at_instant);
}

TEST_F(SnapshotResidueTest, WhatFitsIntoThePauseIsCopiedInIt) {
  order_.pause_budget_ns = 60'000'000'000;
  WriteWithoutEnd(5);
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  EXPECT_EQ(taken->info.draft.figures.at("protected_pages"), 0u);
  EXPECT_EQ(taken->info.draft.texts.at("residue"), "copied");
  EXPECT_EQ(taken->info.draft.figures.at("budget_met"), 1u);
  ExpectHolds(taken->info.id, subject_.memory_at_instant);
}

TEST_F(SnapshotResidueTest, TheRecordSaysWhyNothingWasProtected) {
  protection_->FailAfter(0);
  WriteWithoutEnd(5);
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  EXPECT_EQ(taken->info.draft.texts.at("residue"), "copied: userfaultfd fails");
  EXPECT_EQ(taken->info.draft.figures.at("budget_met"), 0u);
  ExpectHolds(taken->info.id, subject_.memory_at_instant);
}

// A read in flight writes past a protection.
TEST_F(SnapshotResidueTest, TargetsOfReadsInFlightAreCopiedInThePause) {
  for (uint64_t page = 0; page < kResidueTestPages; page += 7) {
    protection_->pinned.insert(page);
  }
  WriteWithoutEnd(5);
  bool seen = false;
  subject_.after_instant = [&] {
    seen = !protection_->pages().empty();
    for (const uint64_t page : protection_->pinned) {
      EXPECT_FALSE(protection_->pages().contains(page)) << page;
    }
  };
  const Result<TakenSnapshot> taken = Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  EXPECT_TRUE(seen);
  ExpectHolds(taken->info.id, subject_.memory_at_instant);
}

// Owed bits: whatever fails, nothing stays protected, and the next snapshot holds what this took.
TEST_F(SnapshotResidueTest, AProtectionThatFailsAtAnyCallOwesNothing) {
  uint64_t failures = 0;
  for (uint64_t n = 1;; n += n < 12 ? 1 : 97) {
    WriteWithoutEnd(5);
    protection_->FailAfter(n);
    const Result<TakenSnapshot> taken = Take();
    StandStill();
    if (!protection_->failed()) {
      ASSERT_TRUE(taken.ok()) << taken.error().message();
      break;
    }
    EXPECT_FALSE(taken.ok()) << "call " << n;
    EXPECT_TRUE(protection_->pages().empty());
    ++failures;
    protection_ = std::make_unique<FakeProtection>(subject_);
    const Result<TakenSnapshot> next = Take();
    ASSERT_TRUE(next.ok()) << "after call " << n << ": " << next.error().message();
    ExpectHolds(next->info.id, subject_.memory_at_instant);
  }
  EXPECT_GT(failures, 8u);
}

TEST_F(SnapshotResidueTest, OneThatIsCalledOffOwesNothing) {
  for (uint64_t calls = 1;; calls += calls < 12 ? 1 : 499) {
    WriteWithoutEnd(5);
    observer_.cancel_after = observer_.calls + calls;
    const Result<TakenSnapshot> taken = Take();
    StandStill();
    observer_.cancel_after = ~uint64_t{0};
    if (taken.ok()) {
      EXPECT_GT(calls, 8u);
      return;
    }
    EXPECT_EQ(taken.error().code(), ErrorCode::kCancelled);
    EXPECT_TRUE(protection_->pages().empty());
    const Result<TakenSnapshot> next = Take();
    ASSERT_TRUE(next.ok()) << next.error().message();
    ExpectHolds(next->info.id, subject_.memory_at_instant);
  }
}

TEST_F(SnapshotResidueTest, AStoreThatFailsMeanwhileOwesNothing) {
  for (uint64_t n = 0;; n += n < 6 ? 1 : 151) {
    WriteWithoutEnd(5);
    files_->FailAfter(n, ENOSPC);
    const Result<TakenSnapshot> taken = Take();
    StandStill();
    EXPECT_TRUE(protection_->pages().empty());
    if (!files_->failed()) {
      ASSERT_TRUE(taken.ok()) << taken.error().message();
      EXPECT_GT(n, 10u);
      return;
    }
    const Result<TakenSnapshot> next = Take();
    ASSERT_TRUE(next.ok()) << "after call " << n << ": " << next.error().message();
    ExpectHolds(next->info.id, subject_.memory_at_instant);
  }
}

TEST(ResidueBufferTest, GivesOutWhatHasLanded) {
  ResidueBuffer buffer;
  const std::vector<Extent> extents = {
      {BlockIndex(7), 16}, {BlockIndex(900), 1}, {BlockIndex(3), 2}};
  for (int round = 0; round < 100; ++round) {
    for (const Extent& extent : extents) {
      const std::span<uint8_t> room = buffer.Reserve(extent).value();
      ASSERT_EQ(room.size(), extent.count * kTestBlockBytes);
      for (uint64_t i = 0; i < extent.count; ++i) {
        room[i * kTestBlockBytes] = static_cast<uint8_t>(extent.first.raw() + i);
      }
    }
    buffer.Landed(extents[2]);
    buffer.Landed(extents[0]);
    std::set<uint64_t> pages;
    const auto visit = [&](BlockIndex page, std::span<const uint8_t> bytes) -> Status {
      EXPECT_EQ(bytes.size(), kTestBlockBytes);
      EXPECT_EQ(bytes[0], static_cast<uint8_t>(page.raw()));
      pages.insert(page.raw());
      return {};
    };
    ASSERT_TRUE(buffer.Drain(visit).ok());
    EXPECT_EQ(pages.size(), 18u);
    EXPECT_EQ(buffer.size_bytes(), kTestBlockBytes);
    buffer.Landed(extents[1]);
    ASSERT_TRUE(buffer.Drain(visit).ok());
    EXPECT_EQ(pages.size(), 19u);
    EXPECT_EQ(buffer.size_bytes(), 0u);
  }
}

}  // namespace
}  // namespace pacsvisor::snapshot_test
