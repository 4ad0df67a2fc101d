// Lazy restore: every page is right, whoever touches it and in whatever order.
#include "vmm/memory/memory_faults.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "tests/unit/vmm/memory/faults_fixture.h"
#include "vmm/memory/guest_io_vector.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kSmallBytes = 8 * kMiB;
constexpr uint64_t kSmallPages = kSmallBytes / kPageSizeBytes;
constexpr uint64_t kTwoRegionsBytes = 3 * kGiB + 4 * kMiB;

std::vector<uint64_t> AllPages(uint64_t count, uint64_t seed) {
  std::vector<uint64_t> pages(count);
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(seed));
  return pages;
}

class LazyRestoreTest : public testing::TestWithParam<MemoryBacking> {
 protected:
  void SetUp() override { NEEDS_USERFAULTFD(); }

  void Start(uint64_t size_bytes, MemoryFaultsOptions options, std::vector<Extent> first = {}) {
    options.on_whole = [this] { whole_calls_.fetch_add(1); };
    options.on_failure = [this](const Error&) { failure_calls_.fetch_add(1); };
    memory_ = MakeGuestMemory(size_bytes, GetParam());
    faults_ = MakeFaults(*memory_, std::move(options));
    const Status started = faults_->StartLazy(source_, std::move(first));
    ASSERT_TRUE(started.ok()) << started.error().message();
  }
  // Guest memory is no faults' without its handler: the handler goes first.
  void TearDown() override { faults_.reset(); }

  void ExpectRight(std::span<const uint64_t> pages) {
    for (const uint64_t page : pages) {
      ASSERT_EQ(ReadPage(*memory_, page), PatternSource::PageOf(page)) << page;
    }
  }

  const std::shared_ptr<PatternSource> source_ = std::make_shared<PatternSource>();
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<MemoryFaults> faults_;
  std::atomic<int> whole_calls_ = 0;
  std::atomic<int> failure_calls_ = 0;
};

const MemoryFaultsOptions kNoPrefetch = {.prefetch = false};

TEST_P(LazyRestoreTest, EveryPageIsRightInAnyOrder) {
  for (const uint64_t cluster_pages : {1u, 16u, 512u}) {
    Start(kSmallBytes, {.cluster_pages = cluster_pages, .prefetch = false});
    ExpectRight(AllPages(kSmallPages, cluster_pages));
    EXPECT_TRUE(faults_->WaitUntilWhole(kLongNs));
    faults_.reset();
    ExpectRight(AllPages(kSmallPages, 1));  // and stays so without its handler
  }
  EXPECT_EQ(whole_calls_, 3);
}

TEST_P(LazyRestoreTest, EveryPageIsRightForSeveralThreads) {
  for (const bool prefetch : {false, true}) {
    Start(kSmallBytes, {.prefetch = prefetch});
    std::vector<std::thread> threads;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      threads.emplace_back([this, seed] { ExpectRight(AllPages(kSmallPages, seed)); });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    EXPECT_TRUE(faults_->WaitUntilWhole(kLongNs));
    faults_.reset();
  }
}

TEST_P(LazyRestoreTest, EachPageIsFetchedOnce) {
  Start(kSmallBytes, {});
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    threads.emplace_back([this, seed] { ExpectRight(AllPages(kSmallPages, seed)); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  ASSERT_TRUE(faults_->WaitUntilWhole(kLongNs));
  std::vector<uint64_t> fetched = source_->fetched();
  std::sort(fetched.begin(), fetched.end());
  std::vector<uint64_t> expected;
  for (uint64_t page = 0; page < kSmallPages; ++page) {
    if (!PatternSource::IsZero(page)) {
      expected.push_back(page);
    }
  }
  EXPECT_EQ(fetched, expected);
}

TEST_P(LazyRestoreTest, TheBackgroundFetchesAllThatNobodyTouches) {
  Start(kSmallBytes, {});
  EXPECT_TRUE(faults_->WaitUntilWhole(kLongNs));
  const MemoryFaults::Progress progress = faults_->GetProgress();
  EXPECT_TRUE(progress.whole);
  EXPECT_EQ(progress.pages_there, kSmallPages);
  EXPECT_EQ(progress.prefetched_pages, kSmallPages);
  EXPECT_EQ(progress.missing_faults, 0u);
  ExpectRight(AllPages(kSmallPages, 1));
  EXPECT_EQ(faults_->GetProgress().missing_faults, 0u);
  faults_.reset();
  EXPECT_EQ(whole_calls_, 1);
  EXPECT_EQ(failure_calls_, 0);
}

TEST_P(LazyRestoreTest, TheSourceIsLetGoWhenAllIsThere) {
  Start(kSmallBytes, {});
  ASSERT_TRUE(faults_->WaitUntilWhole(kLongNs));
  EXPECT_EQ(source_.use_count(), 1);
}

// A mapping that is still registered for missing pages is refused to another userfaultfd.
TEST_P(LazyRestoreTest, MemoryIsLetGoWhenAllIsThere) {
  Start(kSmallBytes, {});
  ASSERT_TRUE(faults_->WaitUntilWhole(kLongNs));
  const auto second = UserFaultFd::Create(UserFaultFd::Open().value()).value();
  const GuestMemory::HostRange& range = memory_->host_ranges().front();
  const Status registered =
      second.Register({range.host, range.size_bytes}, UFFDIO_REGISTER_MODE_MISSING);
  EXPECT_TRUE(registered.ok()) << registered.error().message();
}

TEST_P(LazyRestoreTest, TheWorkingSetComesFirst) {
  const std::vector<Extent> first = {{BlockIndex(1900), 2}, {BlockIndex(700), 1}};
  std::vector<Extent> recorded = {{BlockIndex(kSmallPages), 3}, {BlockIndex(~uint64_t{0}), 2}};
  recorded.insert(recorded.end(), first.begin(), first.end());  // behind what memory has not
  Start(kSmallBytes, {.prefetch_pages = 16}, recorded);
  ASSERT_TRUE(faults_->WaitUntilWhole(kLongNs));
  const std::vector<uint64_t> fetched = source_->fetched();
  std::vector<uint64_t> expected(32);
  std::iota(expected.begin(), expected.begin() + 16, 1888);  // the bursts that hold them
  std::iota(expected.begin() + 16, expected.end(), 688);
  ASSERT_GE(fetched.size(), expected.size());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), fetched.begin()));
}

TEST_P(LazyRestoreTest, WhatWasWaitedForIsRecorded) {
  Start(kSmallBytes, {.cluster_pages = 4, .prefetch = false, .record_ns = kLongNs});
  for (const uint64_t page : {1001, 5, 1003, 600}) {
    ReadPage(*memory_, page);
  }
  const std::vector<Extent> expected = {
      {BlockIndex(1000), 4}, {BlockIndex(4), 4}, {BlockIndex(600), 4}};
  EXPECT_EQ(faults_->WorkingSet(), expected);
}

TEST_P(LazyRestoreTest, TheNextOnesWorkingSetBeginsWithThisOnes) {
  Start(kSmallBytes, {.cluster_pages = 4, .prefetch = false, .record_ns = kLongNs},
        {{BlockIndex(1900), 2}});
  ReadPage(*memory_, 5);
  const std::vector<Extent> expected = {{BlockIndex(1900), 2}, {BlockIndex(4), 4}};
  EXPECT_EQ(faults_->WorkingSet(), expected);
}

// A guest that resets itself gets new memory, and no second descriptor can be opened for it.
TEST_P(LazyRestoreTest, OneDescriptorServesMemoryAfterMemory) {
  const auto uffd = UserFaultFd::OpenShared().value();
  for (const bool to_the_end : {false, true, true}) {
    auto memory = MakeGuestMemory(kSmallBytes, GetParam());
    auto faults = MemoryFaults::Create(*memory, uffd, {.prefetch = to_the_end}).value();
    ASSERT_TRUE(faults->StartLazy(source_, {}).ok());
    EXPECT_EQ(ReadPage(*memory, 5), PatternSource::PageOf(5));
    if (to_the_end) {
      EXPECT_TRUE(faults->WaitUntilWhole(kLongNs));
      const Extent all = {BlockIndex(0), kSmallPages};
      ASSERT_TRUE(faults->ArmResidue({&all, 1}).ok());  // let go by the end
    }
    faults.reset();
    if (to_the_end) {
      EXPECT_TRUE(memory->Write(GuestAddress(0), PageBytes(kSmallBytes / 2, 7)));
    }
  }
}

TEST_P(LazyRestoreTest, NothingIsRecordedLater) {
  Start(kSmallBytes, {.prefetch = false, .record_ns = 0});
  ReadPage(*memory_, 5);
  EXPECT_TRUE(faults_->WorkingSet().empty());
}

TEST_P(LazyRestoreTest, AZeroRunIsFilledAtOnce) {
  Start(kSmallBytes, kNoPrefetch);
  const uint64_t first = 2 * PatternSource::kStretchPages;
  ASSERT_TRUE(PatternSource::IsZero(first));
  ReadPage(*memory_, first);
  ReadPage(*memory_, first + PatternSource::kStretchPages - 1);
  EXPECT_EQ(faults_->GetProgress().missing_faults, 1u);
  EXPECT_TRUE(source_->fetched().empty());
}

TEST_P(LazyRestoreTest, FilledPagesAreNotDirty) {
  Start(kSmallBytes, {});
  ExpectRight(AllPages(kSmallPages, 5));
  ASSERT_TRUE(faults_->WaitUntilWhole(kLongNs));
  EXPECT_EQ(memory_->dirty().CountMarked(), 0u);
}

TEST_P(LazyRestoreTest, AWriteKeepsTheRestOfItsPage) {
  Start(kSmallBytes, kNoPrefetch);
  for (const uint64_t page : AllPages(kSmallPages, 9)) {
    const GuestAddress at(page * kPageSizeBytes + 100);
    ASSERT_TRUE(memory_->Write(at, PageBytes{1, 2, 3}));
    PageBytes expected = PatternSource::PageOf(page);
    expected[100] = 1;
    expected[101] = 2;
    expected[102] = 3;
    ASSERT_EQ(ReadPage(*memory_, page), expected) << page;
  }
  EXPECT_EQ(memory_->dirty().CountMarked(), kSmallPages);
}

TEST_P(LazyRestoreTest, WritesDuringTheBackgroundsWorkStay) {
  Start(kSmallBytes, {.prefetch_pages = 4});
  std::vector<std::thread> threads;
  for (uint64_t part = 0; part < 3; ++part) {
    threads.emplace_back([this, part] {
      for (const uint64_t page : AllPages(kSmallPages, part)) {
        const GuestAddress at(page * kPageSizeBytes + 8 * part);
        CHECK(memory_->WriteObject(at, page ^ part));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  ASSERT_TRUE(faults_->WaitUntilWhole(kLongNs));
  for (uint64_t page = 0; page < kSmallPages; ++page) {
    PageBytes expected = PatternSource::PageOf(page);
    for (uint64_t part = 0; part < 3; ++part) {
      const uint64_t word = page ^ part;
      std::memcpy(&expected[8 * part], &word, sizeof(word));
    }
    ASSERT_EQ(ReadPage(*memory_, page), expected) << page;
  }
}

// The kernel faults on a device's behalf, both ways, over page ends.
TEST_P(LazyRestoreTest, TheKernelsReadsAndWritesAreServed) {
  Start(kSmallBytes, kNoPrefetch);
  const UniqueFd file(memfd_create("pages", MFD_CLOEXEC));
  const auto io = [&](GuestRange range, IoDirection direction) {
    auto vector = GuestIoVector::Create(*memory_, {&range, 1}, direction).value();
    const auto count = static_cast<int>(vector.iovecs().size());
    if (direction == IoDirection::kDeviceReads) {
      return pwritev(file.get(), vector.iovecs().data(), count, 0);
    }
    const ssize_t bytes = preadv(file.get(), vector.iovecs().data(), count, 0);
    vector.Landed();
    return bytes;
  };
  std::mt19937_64 random(11);
  for (int step = 0; step < 200; ++step) {
    const uint64_t size = 1 + random() % 30'000;
    const GuestRange range = {GuestAddress(random() % (kSmallBytes / 2 - size)), size};
    ASSERT_EQ(io(range, IoDirection::kDeviceReads), static_cast<ssize_t>(size));
    PageBytes bytes(size);
    ASSERT_EQ(pread(file.get(), bytes.data(), size, 0), static_cast<ssize_t>(size));
    for (uint64_t i = 0; i < size; i += 511) {
      const uint64_t address = range.start.raw() + i;
      ASSERT_EQ(bytes[i], PatternSource::PageOf(address / kPageSizeBytes)[address % kPageSizeBytes])
          << address;
    }
    // Into the other half: whole pages and parts of them.
    const GuestRange into = {GuestAddress(range.start.raw() + kSmallBytes / 2), size};
    ASSERT_EQ(io(into, IoDirection::kDeviceWrites), static_cast<ssize_t>(size));
    PageBytes landed(size);
    ASSERT_TRUE(memory_->Read(into.start, landed));
    ASSERT_EQ(landed, bytes);
  }
}

TEST_P(LazyRestoreTest, BothRegionsAreServedToTheirLastPages) {
  Start(kTwoRegionsBytes, kNoPrefetch);
  const uint64_t low_pages = 3 * kGiB / kPageSizeBytes;
  const std::vector<uint64_t> pages = {
      low_pages - 1,   low_pages,    memory_->page_count() - 1, 0, low_pages + 5,
      low_pages - 600, low_pages / 2};
  ExpectRight(pages);
  EXPECT_FALSE(faults_->IsWhole());
}

TEST_P(LazyRestoreTest, AClusterCrossesFromOneRegionToTheNext) {
  memory_.reset();
  Start(kTwoRegionsBytes, {.cluster_pages = 512, .prefetch = false});
  ExpectRight({{3 * kGiB / kPageSizeBytes - 1, 3 * kGiB / kPageSizeBytes}});
}

TEST_P(LazyRestoreTest, TheBackgroundKeepsToItsRate) {
  // A bucket of one burst and hardly any rate: one burst is fetched, and the end does not wait.
  Start(kSmallBytes, {.prefetch_pages = 8, .prefetch_pages_per_second = 1});
  ReadPage(*memory_, 1000);
  EXPECT_FALSE(faults_->WaitUntilWhole(1'000'000));
  EXPECT_LE(faults_->GetProgress().prefetched_pages, 16u);
}

TEST_P(LazyRestoreTest, TheSameMemoryIsRestoredAgain) {
  Start(kSmallBytes, {});
  ASSERT_TRUE(faults_->WaitUntilWhole(kLongNs));
  ASSERT_TRUE(memory_->Fill({GuestAddress(0), kSmallBytes}, 0xee));
  ASSERT_TRUE(faults_->StartLazy(source_, {}).ok());
  ExpectRight(AllPages(kSmallPages, 2));
  EXPECT_TRUE(faults_->WaitUntilWhole(kLongNs));
}

TEST_P(LazyRestoreTest, ItMayBeGivenUpAtAnyTime) {
  for (uint64_t touched = 0; touched < 40; ++touched) {
    Start(kSmallBytes, {.prefetch = touched % 2 == 0, .prefetch_pages = 1});
    for (uint64_t page = 0; page < touched; ++page) {
      ReadPage(*memory_, page * 37);
    }
    faults_.reset();
  }
}

INSTANTIATE_TEST_SUITE_P(Backings, LazyRestoreTest,
                         testing::Values(MemoryBacking::kAnonymous, MemoryBacking::kMemfd),
                         [](const auto& one) {
                           return one.param == MemoryBacking::kMemfd ? "Memfd" : "Anonymous";
                         });

}  // namespace
}  // namespace pacsvisor
