// Write-protected pages are copied as they were at the instant, each once, whoever writes them.
#include "vmm/memory/residue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <map>
#include <random>
#include <shared_mutex>
#include <thread>

#include "tests/unit/vmm/memory/faults_fixture.h"
#include "vmm/base/linux_abi.h"
#include "vmm/memory/guest_io_vector.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kResidueBytes = 2 * kMiB;
constexpr uint64_t kResiduePages = kResidueBytes / kPageSizeBytes;

// Holds the pages, and that each comes once.
class PageSink : public ResidueSink {
 public:
  explicit PageSink(uint64_t page_count)
      : bytes_(page_count * kPageSizeBytes), reserved_(page_count), landed_(page_count) {}

  Result<std::span<uint8_t>> Reserve(Extent pages) override {
    if (before_reserve) {
      TRY(before_reserve(pages));
    }
    for (uint64_t i = 0; i < pages.count; ++i) {
      EXPECT_EQ(reserved_[pages.first.raw() + i].fetch_add(1), 0) << pages.first.raw() + i;
    }
    return std::span(bytes_).subspan(pages.first.raw() * kPageSizeBytes,
                                     pages.count * kPageSizeBytes);
  }
  void Landed(Extent pages) override {
    for (uint64_t i = 0; i < pages.count; ++i) {
      landed_[pages.first.raw() + i].fetch_add(1);
    }
  }
  bool Has(uint64_t page) const { return landed_[page] == 1; }
  uint64_t Count() const {
    return static_cast<uint64_t>(std::count(landed_.begin(), landed_.end(), 1));
  }
  PageBytes Page(uint64_t page) const {
    const auto start = bytes_.begin() + static_cast<ptrdiff_t>(page * kPageSizeBytes);
    return {start, start + kPageSizeBytes};
  }

  std::function<Status(Extent)> before_reserve;  // set before the first use

 private:
  std::vector<uint8_t> bytes_;
  std::vector<std::atomic<int>> reserved_;
  std::vector<std::atomic<int>> landed_;
};

// Threads that write words of their own all over memory, by instructions and through the kernel,
// and know what they wrote.
class Writers {
 public:
  static constexpr uint64_t kThreads = 3;

  explicit Writers(GuestMemory& memory) : memory_(memory), file_(memfd_create("words", 0)) {
    for (uint64_t thread = 0; thread < kThreads; ++thread) {
      counts_[thread].resize(memory.page_count());
      threads_.emplace_back([this, thread] { Run(thread); });
    }
  }
  ~Writers() {
    stop_ = true;
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  // While it is held, nobody is in the middle of a write.
  std::unique_lock<std::shared_mutex> Pause() {
    waiting_ = true;  // the mutex may prefer readers
    std::unique_lock lock(pause_);
    waiting_ = false;
    return lock;
  }
  // Every write stands where it was put, and nothing else was changed. After Pause.
  void ExpectNothingLost(const std::function<PageBytes(uint64_t)>& original) const {
    for (uint64_t page = 0; page < memory_.page_count(); ++page) {
      PageBytes expected = original(page);
      for (uint64_t thread = 0; thread < kThreads; ++thread) {
        if (counts_[thread][page] != 0) {
          std::memcpy(&expected[OffsetOf(thread)], &counts_[thread][page], sizeof(uint64_t));
        }
      }
      ASSERT_EQ(ReadPage(memory_, page), expected) << page;
    }
  }

 private:
  static uint64_t OffsetOf(uint64_t thread) { return 1000 * thread + 8; }

  void Run(uint64_t thread) {
    std::mt19937_64 random(thread);
    while (!stop_) {
      if (waiting_) {
        std::this_thread::yield();
        continue;
      }
      const std::shared_lock lock(pause_);
      const uint64_t page = random() % memory_.page_count();
      const uint64_t count = ++counts_[thread][page];
      const GuestAddress at(page * kPageSizeBytes + OffsetOf(thread));
      if (thread == 0) {
        WriteByKernel(at, count);
      } else {
        CHECK(memory_.WriteObject(at, count));
      }
    }
  }
  void WriteByKernel(GuestAddress at, uint64_t count) {
    CHECK(pwrite(file_.get(), &count, sizeof(count), 0) == sizeof(count));
    const GuestRange range = {at, sizeof(count)};
    auto vector = GuestIoVector::Create(memory_, {&range, 1}, IoDirection::kDeviceWrites).value();
    CHECK(preadv(file_.get(), vector.iovecs().data(), 1, 0) == sizeof(count));
    vector.Landed();
  }

  GuestMemory& memory_;
  const UniqueFd file_;
  std::array<std::vector<uint64_t>, kThreads> counts_;
  std::shared_mutex pause_;
  std::atomic<bool> waiting_ = false;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

// Runs of random length, about half of the pages.
std::vector<Extent> RandomExtents(std::mt19937_64& random, uint64_t page_count) {
  std::vector<Extent> extents;
  for (uint64_t page = random() % 40; page < page_count;) {
    const uint64_t count = std::min(page_count - page, 1 + random() % (random() % 4 == 0 ? 90 : 5));
    extents.push_back({BlockIndex(page), count});
    page += count + 1 + random() % (random() % 4 == 0 ? 90 : 5);
  }
  return extents;
}

std::set<uint64_t> PagesOf(const std::vector<Extent>& extents) {
  std::set<uint64_t> pages;
  for (const Extent& extent : extents) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      pages.insert(extent.first.raw() + i);
    }
  }
  return pages;
}

// Without the feature: kernels before Linux 6.4, which protect only pages that there are.
struct Kind {
  const char* name;
  MemoryBacking backing;
  uint64_t without_features;
};

class ResidueTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    NEEDS_USERFAULTFD();
    MakeMachine({});
  }
  void TearDown() override { faults_.reset(); }

  void MakeMachine(MemoryFaultsOptions options) {
    faults_.reset();
    memory_ = MakeGuestMemory(kResidueBytes, GetParam().backing);
    faults_ = MakeFaults(*memory_, std::move(options), GetParam().without_features);
  }
  void FillWithPattern() {
    for (uint64_t page = 0; page < kResiduePages; ++page) {
      ASSERT_TRUE(memory_->Write(GuestAddress(page * kPageSizeBytes), PatternSource::PageOf(page)));
    }
  }
  std::map<uint64_t, PageBytes> Contents(const std::set<uint64_t>& pages) const {
    std::map<uint64_t, PageBytes> contents;
    for (const uint64_t page : pages) {
      contents[page] = ReadPage(*memory_, page);
    }
    return contents;
  }
  // In the pause: the instant. Pages rewritten since they were armed.
  std::vector<Extent> Begin(ResidueSink& sink) {
    std::vector<uint64_t> words(memory_->dirty().word_count());
    EXPECT_TRUE(faults_->BeginResidue(sink, words).ok());
    return ExtentsOf(words, kResiduePages);
  }
  void BeginWith(ResidueSink& sink, const std::vector<Extent>& extents) {
    EXPECT_TRUE(Begin(sink).empty());
    const Status done = faults_->ProtectResidue(extents);
    ASSERT_TRUE(done.ok()) << done.error().message();
  }
  static void ExpectHolds(const PageSink& sink, const std::map<uint64_t, PageBytes>& expected) {
    EXPECT_EQ(sink.Count(), expected.size());
    for (const auto& [page, bytes] : expected) {
      ASSERT_TRUE(sink.Has(page)) << page;
      ASSERT_EQ(sink.Page(page), bytes) << page;
    }
  }
  uint64_t WriteFaults() const { return faults_->GetProgress().write_faults; }
  // Until some writers have come upon protected pages. `before`: as many as there were when nothing
  // was protected yet.
  void WaitForWriteFaults(uint64_t before, uint64_t more) const {
    while (WriteFaults() < before + more) {
      std::this_thread::yield();
    }
  }
  void WriteAllPages() {
    for (uint64_t page = 0; page < kResiduePages; ++page) {
      ASSERT_TRUE(memory_->WriteObject(GuestAddress(page * kPageSizeBytes), page));
    }
  }

  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<MemoryFaults> faults_;
  std::mt19937_64 random_{17};
};

TEST_P(ResidueTest, PagesThatNobodyWritesAreCopied) {
  FillWithPattern();
  const std::vector<Extent> extents = RandomExtents(random_, kResiduePages);
  const auto expected = Contents(PagesOf(extents));
  PageSink sink(kResiduePages);
  BeginWith(sink, extents);
  EXPECT_TRUE(faults_->CopyRest().ok());
  ExpectHolds(sink, expected);
  EXPECT_EQ(WriteFaults(), 0u);
}

TEST_P(ResidueTest, PagesMayBeCopiedAtOnceAndInPieces) {
  FillWithPattern();
  const std::vector<Extent> extents = {{BlockIndex(3), 40}, {BlockIndex(100), 1}};
  const auto expected = Contents(PagesOf(extents));
  PageSink sink(kResiduePages);
  BeginWith(sink, extents);
  // Of what is asked for, only what is protected.
  const std::vector<Extent> now = {{BlockIndex(0), 5}, {BlockIndex(20), 30}, {BlockIndex(99), 1}};
  ASSERT_TRUE(faults_->CopyResidueNow(now).ok());
  EXPECT_EQ(sink.Count(), 2u + 23u);
  const uint64_t protected_pages = expected.size() - sink.Count();
  WriteAllPages();  // those are let go
  EXPECT_EQ(WriteFaults(), protected_pages);
  EXPECT_FALSE(faults_->CopySome().value());
  EXPECT_TRUE(faults_->CopyRest().ok());
  ExpectHolds(sink, expected);
}

TEST_P(ResidueTest, APieceAtATimeIsCopiedUntilNoneIsLeft) {
  FillWithPattern();
  const std::vector<Extent> extents = RandomExtents(random_, kResiduePages);
  const auto expected = Contents(PagesOf(extents));
  PageSink sink(kResiduePages);
  BeginWith(sink, extents);
  uint64_t before = 0;
  while (faults_->CopySome().value()) {
    EXPECT_GT(sink.Count(), before);
    EXPECT_LE(sink.Count(), before + Residue::kRunPages);
    before = sink.Count();
  }
  ExpectHolds(sink, expected);
  EXPECT_TRUE(faults_->CopyRest().ok());
}

TEST_P(ResidueTest, ReadsDoNotFault) {
  FillWithPattern();
  PageSink sink(kResiduePages);
  BeginWith(sink, {{BlockIndex(0), kResiduePages}});
  for (uint64_t page = 0; page < kResiduePages; ++page) {
    ASSERT_EQ(ReadPage(*memory_, page), PatternSource::PageOf(page));
  }
  EXPECT_EQ(WriteFaults(), 0u);
  EXPECT_EQ(sink.Count(), 0u);
  EXPECT_TRUE(faults_->CopyRest().ok());
}

TEST_P(ResidueTest, APageIsCopiedBeforeItsFirstWriteOnly) {
  FillWithPattern();
  PageSink sink(kResiduePages);
  BeginWith(sink, {{BlockIndex(10), 3}});
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(memory_->WriteObject(GuestAddress(11 * kPageSizeBytes + 8), round));
    ASSERT_TRUE(memory_->WriteObject(GuestAddress(13 * kPageSizeBytes + 8), round));
  }
  EXPECT_EQ(WriteFaults(), 1u);
  EXPECT_EQ(sink.Count(), 1u);
  EXPECT_EQ(sink.Page(11), PatternSource::PageOf(11));
  EXPECT_TRUE(faults_->CopyRest().ok());
  EXPECT_EQ(sink.Count(), 3u);
}

TEST_P(ResidueTest, WritersFindEveryPageOfTheInstantCopiedAHundredTimes) {
  FillWithPattern();
  Writers writers(*memory_);
  for (int epoch = 0; epoch < 100; ++epoch) {
    const std::vector<Extent> extents = RandomExtents(random_, kResiduePages);
    PageSink sink(kResiduePages);
    auto pause = writers.Pause();
    const auto expected = Contents(PagesOf(extents));
    const uint64_t before = WriteFaults();
    BeginWith(sink, extents);
    pause.unlock();
    WaitForWriteFaults(before, 10);
    const Status copied = faults_->CopyRest();
    ASSERT_TRUE(copied.ok()) << copied.error().message();
    ExpectHolds(sink, expected);
    if (HasFatalFailure()) {
      return;
    }
  }
  const auto pause = writers.Pause();
  writers.ExpectNothingLost(PatternSource::PageOf);
}

TEST_P(ResidueTest, PagesArmedAheadAreCopiedOrListed) {
  FillWithPattern();
  Writers writers(*memory_);
  for (int epoch = 0; epoch < 100; ++epoch) {
    const std::vector<Extent> extents = RandomExtents(random_, kResiduePages);
    // In two steps: pages are armed anew that were rewritten meanwhile.
    const std::vector<Extent> again = RandomExtents(random_, kResiduePages);
    const uint64_t before = WriteFaults();
    ASSERT_TRUE(faults_->ArmResidue(extents).ok());
    WaitForWriteFaults(before, 10);
    ASSERT_TRUE(faults_->ArmResidue(again).ok());
    std::set<uint64_t> armed = PagesOf(extents);
    armed.merge(PagesOf(again));
    PageSink sink(kResiduePages);
    auto pause = writers.Pause();
    std::map<uint64_t, PageBytes> expected = Contents(armed);
    const std::vector<Extent> rewritten = Begin(sink);
    // Every other run of the rewritten is protected again, the rest would be copied now.
    std::vector<Extent> protect;
    for (size_t i = 0; i < rewritten.size(); i += 2) {
      protect.push_back(rewritten[i]);
    }
    ASSERT_TRUE(faults_->ProtectResidue(protect).ok());
    pause.unlock();
    ASSERT_TRUE(faults_->CopyRest().ok());
    for (size_t i = 1; i < rewritten.size(); i += 2) {
      for (const uint64_t page : PagesOf({rewritten[i]})) {
        ASSERT_EQ(expected.erase(page), 1u) << page;
      }
    }
    ExpectHolds(sink, expected);
    if (HasFatalFailure()) {
      return;
    }
  }
  const auto pause = writers.Pause();
  writers.ExpectNothingLost(PatternSource::PageOf);
}

TEST_P(ResidueTest, MemoryThatNobodyEverWroteIsProtectedToo) {
  // The first half untouched, the second read only: no page, or one page of zeroes for all.
  for (uint64_t page = kResiduePages / 2; page < kResiduePages; ++page) {
    ReadPage(*memory_, page);
  }
  PageSink sink(kResiduePages);
  BeginWith(sink, {{BlockIndex(0), kResiduePages}});
  std::map<uint64_t, PageBytes> expected;
  for (uint64_t page = 0; page < kResiduePages; ++page) {
    expected[page] = PageBytes(kPageSizeBytes, 0);
  }
  {
    Writers writers(*memory_);
    WaitForWriteFaults(0, kResiduePages / 8);
    EXPECT_TRUE(faults_->CopyRest().ok());
    const auto pause = writers.Pause();
    writers.ExpectNothingLost([](uint64_t) { return PageBytes(kPageSizeBytes, 0); });
  }
  ExpectHolds(sink, expected);
}

TEST_P(ResidueTest, AFailingSinkFailsTheSnapshotOnly) {
  FillWithPattern();
  Writers writers(*memory_);
  for (uint64_t good_pages : {0u, 1u, 100u, 300u}) {
    PageSink sink(kResiduePages);
    std::atomic<uint64_t> asked = 0;
    sink.before_reserve = [&](Extent pages) -> Status {
      if (asked.fetch_add(pages.count) + pages.count > good_pages) {
        return Error::Make(ErrorCode::kNoSpace, "the staging buffer is full");
      }
      return {};
    };
    auto pause = writers.Pause();
    const auto contents = Contents(PagesOf({{BlockIndex(0), kResiduePages}}));
    BeginWith(sink, {{BlockIndex(0), kResiduePages}});
    pause.unlock();
    const Status copied = faults_->CopyRest();
    ASSERT_FALSE(copied.ok());
    EXPECT_EQ(copied.error().message(), "the staging buffer is full");
    for (uint64_t page = 0; page < kResiduePages; ++page) {
      ASSERT_TRUE(!sink.Has(page) || sink.Page(page) == contents.at(page)) << page;
    }
  }
  const auto pause = writers.Pause();
  writers.ExpectNothingLost(PatternSource::PageOf);
}

TEST_P(ResidueTest, ItMayBeAbandonedWhileItIsCopied) {
  FillWithPattern();
  Writers writers(*memory_);
  for (uint64_t run = 0; run < 30; ++run) {
    PageSink sink(kResiduePages);
    std::atomic<uint64_t> reached = 0;
    sink.before_reserve = [&](Extent) -> Status {
      reached.fetch_add(1);
      return {};
    };
    auto pause = writers.Pause();
    const auto contents = Contents(PagesOf({{BlockIndex(0), kResiduePages}}));
    BeginWith(sink, {{BlockIndex(0), kResiduePages}});
    pause.unlock();
    Status copied;
    std::thread copier([&] { copied = faults_->CopyRest(); });
    while (reached < run) {
      std::this_thread::yield();
    }
    ASSERT_TRUE(faults_->AbandonResidue().ok());
    copier.join();
    EXPECT_TRUE(copied.ok() || copied.error().code() == ErrorCode::kCancelled);
    EXPECT_TRUE(!copied.ok() || sink.Count() == kResiduePages);
    for (uint64_t page = 0; page < kResiduePages; ++page) {
      ASSERT_TRUE(!sink.Has(page) || sink.Page(page) == contents.at(page)) << page;
    }
  }
  const auto pause = writers.Pause();
  writers.ExpectNothingLost(PatternSource::PageOf);
}

TEST_P(ResidueTest, MemoryIsWritableWhenAllIsGivenUp) {
  FillWithPattern();
  PageSink sink(kResiduePages);
  BeginWith(sink, {{BlockIndex(0), kResiduePages}});
  faults_.reset();
  WriteAllPages();
  EXPECT_EQ(sink.Count(), 0u);
}

// A snapshot while a restore is still fetching: missing pages among the residue are fetched first.
TEST_P(ResidueTest, PagesThatAreMissingStillBelongToTheInstant) {
  const auto source = std::make_shared<PatternSource>();
  for (const bool prefetch : {false, true}) {
    MakeMachine({.cluster_pages = 2, .prefetch = prefetch, .prefetch_pages = 4});
    ASSERT_TRUE(faults_->StartLazy(source, {}).ok());
    ASSERT_TRUE(memory_->WriteObject(GuestAddress(50 * kPageSizeBytes), uint64_t{5}));
    PageSink sink(kResiduePages);
    const std::vector<Extent> extents = RandomExtents(random_, kResiduePages);
    BeginWith(sink, extents);
    std::map<uint64_t, PageBytes> expected;
    for (const uint64_t page : PagesOf(extents)) {
      expected[page] = PatternSource::PageOf(page);
    }
    if (expected.contains(50)) {
      const uint64_t five = 5;
      std::memcpy(expected[50].data(), &five, sizeof(five));
    }
    WriteAllPages();
    ASSERT_TRUE(faults_->CopyRest().ok());
    ExpectHolds(sink, expected);
    EXPECT_TRUE(faults_->WaitUntilWhole(kLongNs));
    for (uint64_t page = 0; page < kResiduePages; ++page) {
      PageBytes written = PatternSource::PageOf(page);
      std::memcpy(written.data(), &page, sizeof(page));
      ASSERT_EQ(ReadPage(*memory_, page), written) << page;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Backings, ResidueTest,
    testing::Values(Kind{"Anonymous", MemoryBacking::kAnonymous, 0},
                    Kind{"Memfd", MemoryBacking::kMemfd, 0},
                    Kind{"AnonymousBefore64", MemoryBacking::kAnonymous, kUffdFeatureWpUnpopulated},
                    Kind{"MemfdBefore64", MemoryBacking::kMemfd, kUffdFeatureWpUnpopulated}),
    [](const auto& one) { return one.param.name; });

// What a kernel lacks is refused by name.
TEST(ResidueFeaturesTest, KernelsWithoutWriteProtectionAreRefused) {
  NEEDS_USERFAULTFD();
  const struct {
    MemoryBacking backing;
    uint64_t without_features;
  } cases[] = {{MemoryBacking::kAnonymous, UFFD_FEATURE_PAGEFAULT_FLAG_WP},
               {MemoryBacking::kMemfd, UFFD_FEATURE_WP_HUGETLBFS_SHMEM}};
  for (const auto& one : cases) {
    const auto memory = MakeGuestMemory(kResidueBytes, one.backing);
    const auto faults = MakeFaults(*memory, {}, one.without_features);
    const Extent first = {BlockIndex(0), 1};
    const Status armed = faults->ArmResidue({&first, 1});
    ASSERT_FALSE(armed.ok());
    EXPECT_EQ(armed.error().code(), ErrorCode::kUnsupported);
    EXPECT_THAT(armed.error().message(), testing::HasSubstr("Linux 5."));
  }
}

}  // namespace
}  // namespace pacsvisor
