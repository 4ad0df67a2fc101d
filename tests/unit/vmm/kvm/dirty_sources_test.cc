// Every source of vCPUs' writes on real vCPUs, against a model (what was written), against compare
// (what changed), and against a replica that is kept up by copying what a harvest says.
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <tuple>

#include "tests/support/dirty_source_kind.h"
#include "tests/support/needs_kvm.h"
#include "vmm/dirty/dirty_tracker.h"

namespace pacsvisor {
namespace {

using Pages = std::set<uint64_t>;
using PageList = std::vector<uint64_t>;

constexpr uint64_t kOwnPages = WritingGuest::kFirstFreeAddress / kPageSizeBytes;
constexpr uint32_t kRingEntries = 4096;
constexpr std::chrono::seconds kDeadline(60);

class TrackedGuest {
 public:
  // With a problem of `source`, there is no tracker.
  TrackedGuest(DirtySourceKind kind, WritingGuest::Options options, uint32_t ring_entries) {
    options.ring_entries = kind == DirtySourceKind::kRing ? ring_entries : 0;
    options.logging = LoggingOf(kind);
    guest_ = std::make_unique<WritingGuest>(options);
    auto source = MakeDirtySource(kind, *guest_, options.vcpus, options.ring_entries);
    if (!source.ok()) {
      problem_ = source.error();
      return;
    }
    source_ = source->get();
    tracker_ = std::make_unique<DirtyTracker>(guest_->memory().dirty(), std::move(source).value());
  }
  ~TrackedGuest() { guest_->StopWriting(); }  // the threads use the source

  Status usable() const { return problem_.has_value() ? Status(*problem_) : Status(); }
  WritingGuest& guest() { return *guest_; }
  GuestMemory& memory() { return guest_->memory(); }
  DirtyTracker& tracker() { return *tracker_; }
  DirtySource& source() { return *source_; }

  void Start() {
    const Status started = tracker_->Start();
    ASSERT_TRUE(started.ok()) << started.error().message();
  }

  Pages Harvest() {
    return Collect([this](std::span<uint64_t> words) { return tracker_->Harvest(words); });
  }
  Pages HarvestPaused() {
    return Collect([this](std::span<uint64_t> words) { return tracker_->HarvestPaused(words); });
  }
  // Leaves no mark of the VMM behind.
  void ForgetMarks() {
    std::vector<uint64_t> words(memory().dirty().word_count());
    memory().dirty().TakeInto(words);
  }

  template <typename Call>
  Pages Collect(Call call) {
    std::vector<uint64_t> words(memory().dirty().word_count());
    const Status harvested = call(words);
    EXPECT_TRUE(harvested.ok()) << harvested.error().message();
    return PagesOf(words);
  }
  Pages PagesOf(std::span<const uint64_t> words) {
    Pages pages;
    for (const Extent& extent : ExtentsOf(words, memory().page_count())) {
      for (uint64_t i = 0; i < extent.count; ++i) {
        pages.insert(extent.first.raw() + i);
      }
    }
    return pages;
  }

 private:
  std::unique_ptr<WritingGuest> guest_;
  std::optional<Error> problem_;
  DirtySource* source_ = nullptr;
  std::unique_ptr<DirtyTracker> tracker_;
};

PageList Sample(const PageList& from, size_t count, std::mt19937_64& random) {
  PageList some;
  std::sample(from.begin(), from.end(), std::back_inserter(some), count, random);
  std::shuffle(some.begin(), some.end(), random);
  return some;
}

void ExpectAll(const Pages& got, const PageList& wanted, const char* who) {
  for (const uint64_t page : wanted) {
    ASSERT_TRUE(got.contains(page)) << who << ": page " << page << " is missing";
  }
}

class DirtySources : public testing::TestWithParam<std::tuple<DirtySourceKind, MemoryBacking>> {
 protected:
  void SetUp() override { NEEDS_KVM(); }

  DirtySourceKind kind() const { return std::get<0>(GetParam()); }
  MemoryBacking backing() const { return std::get<1>(GetParam()); }
  TrackedGuest Make(uint64_t memory_bytes, uint32_t vcpus) {
    return TrackedGuest(
        kind(), {.memory_bytes = memory_bytes, .vcpus = vcpus, .backing = backing()}, kRingEntries);
  }

  std::mt19937_64 random_{7};
};

INSTANTIATE_TEST_SUITE_P(Kinds, DirtySources,
                         testing::Combine(testing::ValuesIn(kDirtySourceKinds),
                                          testing::Values(MemoryBacking::kAnonymous,
                                                          MemoryBacking::kMemfd)),
                         [](const auto& param) {
                           return DirtySourceKindName(std::get<0>(param.param)) +
                                  (std::get<1>(param.param) == MemoryBacking::kMemfd ? "Memfd"
                                                                                     : "");
                         });

TEST_P(DirtySources, ReportWhatVcpusAndTheVmmWroteAndNothingElse) {
  TrackedGuest tracked = Make(64 * kMiB, 2);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  const PageList free_pages = tracked.guest().FreePages();
  tracked.guest().Write(0, free_pages);  // all are there: none comes in whole huge pages later
  tracked.Start();
  tracked.ForgetMarks();
  for (int round = 0; round < 30; ++round) {
    PageList written = Sample(free_pages, 1 + random_() % 700, random_);
    const auto middle = static_cast<std::ptrdiff_t>(written.size() / 2);
    tracked.guest().Write(0, {written.begin(), written.begin() + middle});
    tracked.guest().Write(1, {written.begin() + middle, written.end()});
    for (const uint64_t page : Sample(free_pages, 50, random_)) {
      ASSERT_TRUE(tracked.memory().WriteObject(tracked.guest().AddressOf(page), random_()));
      written.push_back(page);
    }
    const Pages got = tracked.HarvestPaused();
    ExpectAll(got, written, "first");
    const Pages expected(written.begin(), written.end());
    for (const uint64_t page : got) {
      ASSERT_TRUE(page < kOwnPages || expected.contains(page)) << page << " was not written";
    }
    tracked.Harvest();  // watches anew what a paused one leaves
  }
}

TEST_P(DirtySources, ReportAPageAgainThatIsWrittenAfterAHarvest) {
  TrackedGuest tracked = Make(32 * kMiB, 1);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  tracked.Start();
  const PageList pages = Sample(tracked.guest().FreePages(), 200, random_);
  for (int round = 0; round < 20; ++round) {
    tracked.guest().Write(0, pages);
    ExpectAll(tracked.Harvest(), pages, "each time");
  }
}

TEST_P(DirtySources, LoseNothingBetweenAPausedHarvestAndTheNext) {
  TrackedGuest tracked = Make(32 * kMiB, 1);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  tracked.Start();
  const PageList free_pages = tracked.guest().FreePages();
  const PageList old = Sample(free_pages, 300, random_);
  for (int round = 0; round < 20; ++round) {
    tracked.guest().Write(0, old);
    ExpectAll(tracked.HarvestPaused(), old, "paused");
    // The same pages, which were not watched anew, and others.
    tracked.guest().Write(0, old);
    const PageList more = Sample(free_pages, 100, random_);
    tracked.guest().Write(0, more);
    const Pages got = tracked.Harvest();
    ExpectAll(got, old, "next");
    ExpectAll(got, more, "next");
  }
}

TEST_P(DirtySources, BeginAnewWhenStartedAgain) {
  TrackedGuest tracked = Make(32 * kMiB, 1);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  const PageList free_pages = tracked.guest().FreePages();
  tracked.guest().Write(0, free_pages);
  const PageList unwatched = {free_pages[10], free_pages[20]};
  const PageList watched = {free_pages[30], free_pages[40]};
  for (int round = 0; round < 5; ++round) {
    tracked.Start();
    tracked.guest().Write(0, watched);
    const Pages got = tracked.HarvestPaused();
    ExpectAll(got, watched, "watched");
    EXPECT_FALSE(got.contains(unwatched[0]));
    EXPECT_FALSE(got.contains(unwatched[1]));
    tracked.guest().Write(0, unwatched);
    tracked.tracker().Stop();
    tracked.guest().Write(0, unwatched);
  }
}

TEST_P(DirtySources, KnowTheEdgesOfBothSlots) {
  TrackedGuest tracked = Make(3 * kGiB + 512 * kMiB, 1);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  const uint64_t last_low = 3 * kGiB / kPageSizeBytes - 1;
  const uint64_t last = tracked.memory().page_count() - 1;
  const PageList edges = {last_low - 64, last_low - 1, last_low, last_low + 1,
                          last_low + 65, last - 64,    last - 1, last};
  tracked.Start();
  tracked.ForgetMarks();
  for (int round = 0; round < 3; ++round) {
    tracked.guest().Write(0, edges);
    ExpectAll(tracked.Harvest(), edges, "vCPU");
    ASSERT_TRUE(tracked.memory().WriteObject(tracked.guest().AddressOf(last_low), random_()));
    ASSERT_TRUE(tracked.memory().WriteObject(tracked.guest().AddressOf(last), random_()));
    ExpectAll(tracked.Harvest(), {last_low, last}, "VMM");
  }
}

// Slots whose pages begin and end within a word of the space's set.
TEST_P(DirtySources, KnowSlotsOfOddSizes) {
  TrackedGuest tracked(kind(),
                       {.vcpus = 1,
                        .backing = backing(),
                        .regions = {{GuestAddress(0), 20 * kMiB + 13 * kPageSizeBytes},
                                    {kHighMemoryStart, 165 * kPageSizeBytes},
                                    {GuestAddress(5 * kGiB), kPageSizeBytes}}},
                       kRingEntries);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  const PageList free_pages = tracked.guest().FreePages();
  tracked.guest().Write(0, free_pages);
  tracked.Start();
  tracked.ForgetMarks();
  for (int round = 0; round < 30; ++round) {
    PageList written = Sample(free_pages, random_() % 300, random_);
    written.push_back(free_pages.back());
    tracked.guest().Write(0, written);
    const Pages got = tracked.HarvestPaused();
    ExpectAll(got, written, "odd");
    const Pages expected(written.begin(), written.end());
    for (const uint64_t page : got) {
      ASSERT_TRUE(page < kOwnPages || expected.contains(page)) << page << " was not written";
    }
    tracked.Harvest();
  }
}

// Harvest, then copy, as a snapshot does.
class Replica {
 public:
  explicit Replica(GuestMemory& memory) : memory_(memory) {
    for (uint64_t page = 0; page < memory.page_count(); ++page) {
      bytes_.resize(bytes_.size() + kPageSizeBytes);
      Copy(page);
    }
  }
  void CopyAll(const Pages& pages) {
    for (const uint64_t page : pages) {
      Copy(page);
    }
  }
  // How many pages differ.
  uint64_t CountStale() {
    uint64_t stale = 0;
    for (uint64_t page = 0; page < memory_.page_count(); ++page) {
      stale += std::memcmp(&bytes_[page * kPageSizeBytes], HostPage(page), kPageSizeBytes) != 0;
    }
    return stale;
  }

 private:
  const uint8_t* HostPage(uint64_t page) const {
    return memory_.host_ranges()[0].host + page * kPageSizeBytes;  // one region
  }
  void Copy(uint64_t page) {
    std::memcpy(&bytes_[page * kPageSizeBytes], HostPage(page), kPageSizeBytes);
  }

  GuestMemory& memory_;
  std::vector<uint8_t> bytes_;
};

class BusyDirtySources
    : public testing::TestWithParam<std::tuple<DirtySourceKind, uint32_t, uint32_t>> {
 protected:
  void SetUp() override { NEEDS_KVM(); }
};

// One or two vCPUs; few pages that are written over and over, or many.
INSTANTIATE_TEST_SUITE_P(Kinds, BusyDirtySources,
                         testing::Combine(testing::ValuesIn(kDirtySourceKinds),
                                          testing::Values(1u, 2u), testing::Values(64u, 4096u)),
                         [](const auto& param) {
                           return DirtySourceKindName(std::get<0>(param.param)) +
                                  std::to_string(std::get<1>(param.param)) + "Vcpus" +
                                  std::to_string(std::get<2>(param.param)) + "Pages";
                         });

TEST_P(BusyDirtySources, LoseNothingWhileVcpusAndTheVmmWrite) {
  const auto& [kind, vcpus, page_count] = GetParam();
  TrackedGuest tracked(kind, {.memory_bytes = 48 * kMiB, .vcpus = vcpus}, 1024);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  std::mt19937_64 random(vcpus * page_count);
  const PageList free_pages = tracked.guest().FreePages();
  const PageList pages = Sample(free_pages, page_count, random);
  Replica replica(tracked.memory());
  CompareSource oracle(tracked.memory());
  tracked.Start();
  ASSERT_TRUE(oracle.Start().ok());
  Pages all;
  const auto take = [&](const Pages& got) {
    replica.CopyAll(got);
    all.insert(got.begin(), got.end());
  };
  for (int phase = 0; phase < 2; ++phase) {
    tracked.guest().StartWriting(pages);
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    for (int round = 0; round < 15 || tracked.guest().written() < 5'000; ++round) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the vCPUs do not write";
      for (int i = 0; i < 5; ++i) {
        const uint64_t page = free_pages[random() % free_pages.size()];
        ASSERT_TRUE(tracked.memory().WriteObject(tracked.guest().AddressOf(page), random()));
      }
      take(tracked.Harvest());
    }
    tracked.guest().StopWriting();
    take(tracked.HarvestPaused());
    ASSERT_EQ(replica.CountStale(), 0u) << "in phase " << phase;
  }
  std::vector<uint64_t> changed(tracked.memory().dirty().word_count());
  ASSERT_TRUE(oracle.HarvestPaused(changed).ok());
  for (const uint64_t page : tracked.PagesOf(changed)) {
    EXPECT_TRUE(all.contains(page)) << "compare finds page " << page << " changed";
  }
}

// --- One source's own
// -----------------------------------------------------------------------------

class DirtySourceTest : public testing::Test {
 protected:
  void SetUp() override { NEEDS_KVM(); }

  std::mt19937_64 random_{11};
};

// A machine that is never snapshotted pays nothing.
TEST_F(DirtySourceTest, TheBitmapLogsNothingBeforeItIsStartedAndAfterItIsStopped) {
  WritingGuest guest({.vcpus = 1});
  const auto source = DirtyBitmapSource::Create(guest.vm(), guest.memory(),
                                                DirtyBitmapSource::BestClearing(guest.system()))
                          .value();
  std::vector<uint64_t> words(guest.memory().dirty().word_count());
  EXPECT_FALSE(source->Harvest(words).ok());  // KVM has no log
  ASSERT_TRUE(source->Start().ok());
  EXPECT_TRUE(source->Harvest(words).ok());
  source->Stop();
  EXPECT_FALSE(source->Harvest(words).ok());
}

TEST_F(DirtySourceTest, ARingThatFillsLosesNothing) {
  constexpr uint32_t kEntries = 1024;
  TrackedGuest tracked(DirtySourceKind::kRing, {.memory_bytes = 128 * kMiB, .vcpus = 2}, kEntries);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  const PageList free_pages = tracked.guest().FreePages();
  tracked.Start();
  for (int round = 0; round < 5; ++round) {
    const uint64_t exits = tracked.guest().ring_full_exits();
    const PageList first = Sample(free_pages, 12 * kEntries, random_);
    const PageList second = Sample(free_pages, 12 * kEntries, random_);
    tracked.guest().Write(0, first);
    tracked.guest().Write(1, second);
    EXPECT_GE(tracked.guest().ring_full_exits(), exits + 10);
    const Pages got = tracked.Harvest();
    ExpectAll(got, first, "first vCPU");
    ExpectAll(got, second, "second vCPU");
  }
}

TEST_F(DirtySourceTest, RingsLargerThanTheHostsAreRefused) {
  const auto system = KvmSystem::Open().value();
  const auto refused = KvmVm::Create(*system, {.dirty_ring_entries = 1u << 28});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnsupported);
}

// The second slot's log cannot be read: what was taken of the first comes with the next harvest.
class FailingBitmap : public DirtySourceTest,
                      public testing::WithParamInterface<DirtySourceKind> {};

INSTANTIATE_TEST_SUITE_P(Kinds, FailingBitmap,
                         testing::Values(DirtySourceKind::kBitmap,
                                         DirtySourceKind::kBitmapGetClears),
                         [](const auto& param) { return DirtySourceKindName(param.param); });

TEST_P(FailingBitmap, LosesNothingWhenTheSecondSlotFails) {
  TrackedGuest tracked(
      GetParam(),
      {.vcpus = 1, .regions = {{GuestAddress(0), 32 * kMiB}, {kHighMemoryStart, 4 * kMiB}}}, 0);
  NEEDS_DIRTY_SOURCE(tracked.usable());
  tracked.Start();
  PageList low = tracked.guest().FreePages();
  low.resize(1000);
  tracked.guest().Write(0, low);

  const GuestMemory::HostRange& second = tracked.memory().host_ranges()[1];
  kvm_userspace_memory_region region{.slot = 1,
                                     .flags = 0,
                                     .guest_phys_addr = second.start.raw(),
                                     .memory_size = 0,  // takes the slot away
                                     .userspace_addr = 0};
  ASSERT_EQ(KvmIoctl(tracked.guest().vm().fd(), KVM_SET_USER_MEMORY_REGION, &region), 0);
  std::vector<uint64_t> dropped(tracked.memory().dirty().word_count());
  EXPECT_FALSE(tracked.tracker().Harvest(dropped).ok());

  region.flags = KVM_MEM_LOG_DIRTY_PAGES;
  region.memory_size = second.size_bytes;
  region.userspace_addr = reinterpret_cast<uintptr_t>(second.host);  // as the ABI has it
  ASSERT_EQ(KvmIoctl(tracked.guest().vm().fd(), KVM_SET_USER_MEMORY_REGION, &region), 0);
  ExpectAll(tracked.Harvest(), low, "after the failure");
}

TEST_F(DirtySourceTest, PagemapLosesNothingWhenTheSecondRegionFails) {
  WritingGuest guest(
      {.vcpus = 1, .regions = {{GuestAddress(0), 32 * kMiB}, {kHighMemoryStart, 4 * kMiB}}});
  const auto access = PagemapAccess::Open();
  NEEDS_DIRTY_SOURCE(access);
  PagemapSource source(guest.memory(), *access);
  ASSERT_TRUE(source.Start().ok());
  const PageList pages = guest.FreePages();
  guest.Write(0, pages);

  const GuestMemory::HostRange& second = guest.memory().host_ranges()[1];
  uffdio_range range = {.start = reinterpret_cast<uintptr_t>(second.host),  // as the ABI has it
                        .len = second.size_bytes};
  ASSERT_EQ(ioctl((*access)->userfaultfd(), UFFDIO_UNREGISTER, &range), 0);
  std::vector<uint64_t> words(guest.memory().dirty().word_count());
  EXPECT_FALSE(source.Harvest(words).ok());
  for (const uint64_t page : pages) {  // the first region's were taken, the second's may have been
    ASSERT_TRUE((words[page / 64] >> (page % 64) & 1) != 0) << page;
  }
}

TEST_F(DirtySourceTest, PagemapIsRefusedMemoryThatIsWatchedAlready) {
  WritingGuest guest({.vcpus = 1});
  const auto first = PagemapAccess::Open();
  NEEDS_DIRTY_SOURCE(first);
  const auto second = PagemapAccess::Open().value();
  PagemapSource watching(guest.memory(), *first);
  PagemapSource late(guest.memory(), second);
  ASSERT_TRUE(watching.Start().ok());
  EXPECT_FALSE(late.Start().ok());
  guest.Write(0, guest.FreePages());  // the first goes on
  std::vector<uint64_t> words(guest.memory().dirty().word_count());
  ASSERT_TRUE(watching.Harvest(words).ok());
  EXPECT_GE(std::count_if(words.begin(), words.end(), [](uint64_t word) { return word != 0; }),
            static_cast<std::ptrdiff_t>(guest.FreePages().size() / 64));
}

}  // namespace
}  // namespace pacsvisor
