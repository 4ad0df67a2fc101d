#include "vmm/snapshot/snapshot_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/support/memory_store_files.h"
#include "tests/unit/vmm/snapshot/fake_subject.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor::snapshot_test {
namespace {

constexpr uint64_t kStoredPages = 700;

class Unobserved : public CaptureObserver {
 public:
  void OnProgress(CapturePhase, uint64_t, uint64_t) override {}
  bool cancelled() const override { return false; }
};

class SnapshotPagesTest : public testing::Test {
 protected:
  SnapshotPagesTest() {
    EXPECT_TRUE(Store::Create(*files_).ok());
    subject_.AddDisk(16 * 4096);
    for (uint64_t page = 0; page < kStoredPages; ++page) {
      if (!IsZero(page)) {
        subject_.GuestWrites(page, static_cast<uint8_t>(page % 251 + 1));
      }
    }
    const std::unique_ptr<Store> store = Store::Open(files_).value();
    SnapshotTaker taker(subject_, *store);
    Unobserved unobserved;
    EXPECT_TRUE(taker.Take({.machine = "pacs"}, unobserved).ok());
    subject_.GuestWrites(3, 200);  // of a second table and pack
    id_ = taker.Take({.machine = "pacs"}, unobserved).value().info.id;
  }

  static bool IsZero(uint64_t page) { return page >= 100 && page < 400; }
  std::shared_ptr<SnapshotReader> Open() {
    return Store::Open(files_).value()->OpenSnapshot(id_).value();
  }
  std::span<const uint8_t> PageOf(uint64_t page) const {
    return std::span(subject_.memory_at_instant).subspan(page * 4096, 4096);
  }

  std::shared_ptr<MemoryStoreFiles> files_ = MemoryStoreFiles::Create();
  FakeSubject subject_{kStoredPages};
  SnapshotId id_;
};

TEST_F(SnapshotPagesTest, AreTheMemoryOfTheInstantForSeveralThreads) {
  const auto pages = SnapshotPages::Create(Open(), subject_.memory_space).value();
  ASSERT_EQ(pages->page_count(), kStoredPages);
  std::vector<std::thread> threads;
  for (uint64_t part = 0; part < 3; ++part) {
    threads.emplace_back([&, part] {
      std::vector<uint8_t> bytes((part * 7 + 1) * 4096);
      for (uint64_t first = part; first + bytes.size() / 4096 <= kStoredPages; ++first) {
        const Status fetched = pages->Fetch(BlockIndex(first), bytes);
        ASSERT_TRUE(fetched.ok()) << fetched.error().message();
        ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), PageOf(first).begin())) << first;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST_F(SnapshotPagesTest, ZeroesAreKnownWithoutReading) {
  const auto pages = SnapshotPages::Create(Open(), subject_.memory_space).value();
  EXPECT_EQ(pages->ZeroRun(BlockIndex(99)).value(), 0u);
  EXPECT_EQ(pages->ZeroRun(BlockIndex(100)).value(), 300u);
  EXPECT_EQ(pages->ZeroRun(BlockIndex(399)).value(), 1u);
  EXPECT_EQ(pages->ZeroRun(BlockIndex(400)).value(), 0u);
}

TEST_F(SnapshotPagesTest, ADamagedPackIsAnErrorThatNamesIt) {
  const auto pages = SnapshotPages::Create(Open(), subject_.memory_space).value();
  for (const std::string& path : files_->Paths()) {
    if (path.ends_with(".pack")) {
      for (uint64_t byte = 64; byte + 200 < files_->Bytes(path).size(); byte += 8) {
        files_->FlipBit(path, byte, 3);
      }
    }
  }
  std::vector<uint8_t> bytes(4096);
  const Status fetched = pages->Fetch(BlockIndex(500), bytes);
  ASSERT_FALSE(fetched.ok());
  EXPECT_EQ(fetched.error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(fetched.error().message(), testing::HasSubstr("block 500 of space memory"));
  EXPECT_THAT(fetched.error().message(), testing::HasSubstr(".pack"));
}

TEST_F(SnapshotPagesTest, MemoryOfAnotherSizeIsRefused) {
  const FakeSubject other(kStoredPages + 1);
  const auto pages = SnapshotPages::Create(Open(), other.memory_space);
  ASSERT_FALSE(pages.ok());
  EXPECT_THAT(pages.error().message(), testing::HasSubstr("--cold"));
}

}  // namespace
}  // namespace pacsvisor::snapshot_test
