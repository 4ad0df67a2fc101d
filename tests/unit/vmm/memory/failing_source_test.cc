// A page that cannot be fetched ends the machine; nobody is handed a wrong one, and everybody can
// be had back.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <thread>

#include "tests/unit/vmm/memory/faults_fixture.h"
#include "vmm/memory/guest_io_vector.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBytes = 4 * kMiB;
constexpr uint64_t kPageCount = kBytes / kPageSizeBytes;
constexpr uint64_t kBadPage = 777;

class FailingSourceTest : public testing::TestWithParam<MemoryBacking> {
 protected:
  void SetUp() override {
    NEEDS_USERFAULTFD();
    source_->before_fetch = [this](BlockIndex first, uint64_t count) -> Status {
      if (first.raw() <= kBadPage && kBadPage < first.raw() + count) {
        bad_fetches_.fetch_add(1);
        return Error::Make(ErrorCode::kCorrupt, "pack 3 is damaged at byte 5");
      }
      return {};
    };
  }
  void TearDown() override { faults_.reset(); }

  void Start(bool prefetch) {
    memory_ = MakeGuestMemory(kBytes, GetParam());
    faults_ = MakeFaults(*memory_, {.cluster_pages = 1,
                                    .prefetch = prefetch,
                                    .prefetch_pages = 1,
                                    .on_failure = [this](const Error& error) {
                                      if (failures_.fetch_add(1) == 0) {
                                        failed_.set_value(error.message());
                                      }
                                    }});
    ASSERT_TRUE(faults_->StartLazy(source_, {}).ok());
  }
  // What the kernel, asked to write the page to a file, says: 0 or an errno.
  int WriteToFile(uint64_t page) {
    const UniqueFd file(memfd_create("page", MFD_CLOEXEC));
    const GuestRange range = {GuestAddress(page * kPageSizeBytes), kPageSizeBytes};
    const auto vector =
        GuestIoVector::Create(*memory_, {&range, 1}, IoDirection::kDeviceReads).value();
    const ssize_t written = pwritev(file.get(), vector.iovecs().data(), 1, 0);
    return written == static_cast<ssize_t>(kPageSizeBytes) ? 0 : errno;
  }

  const std::shared_ptr<PatternSource> source_ = std::make_shared<PatternSource>();
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<MemoryFaults> faults_;
  std::promise<std::string> failed_;
  std::atomic<int> failures_ = 0;
  std::atomic<int> bad_fetches_ = 0;
};

TEST_P(FailingSourceTest, IsToldOnceAndTheOthersAreServed) {
  Start(false);
  std::atomic<int> returned = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      EXPECT_EQ(WriteToFile(kBadPage), EFAULT);
      returned.fetch_add(1);
    });
  }
  EXPECT_EQ(failed_.get_future().get(), "pack 3 is damaged at byte 5");
  for (uint64_t page = 0; page < kPageCount; ++page) {
    if (page != kBadPage) {
      ASSERT_EQ(ReadPage(*memory_, page), PatternSource::PageOf(page)) << page;
    }
  }
  EXPECT_EQ(returned, 0);  // whoever needs the page waits
  EXPECT_FALSE(faults_->WaitUntilWhole(kLongNs));
  faults_->CutOff();
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(failures_, 1);
  EXPECT_EQ(bad_fetches_, 1);
}

TEST_P(FailingSourceTest, IsFoundByTheBackgroundToo) {
  Start(true);
  EXPECT_EQ(failed_.get_future().get(), "pack 3 is damaged at byte 5");
  EXPECT_FALSE(faults_->WaitUntilWhole(kLongNs));
  EXPECT_FALSE(faults_->IsWhole());
  EXPECT_EQ(ReadPage(*memory_, kBadPage + 1), PatternSource::PageOf(kBadPage + 1));
  faults_.reset();
  EXPECT_EQ(failures_, 1);
}

TEST_P(FailingSourceTest, CutOffMemoryIsNobodys) {
  Start(false);
  EXPECT_EQ(WriteToFile(3), 0);
  faults_->CutOff();
  EXPECT_EQ(WriteToFile(3), EFAULT);
  EXPECT_EQ(WriteToFile(kBadPage), EFAULT);
}

// The kernel would take zeroes for the missing pages.
TEST_P(FailingSourceTest, MemoryThatIsNotWholeIsNobodysWithoutItsHandler) {
  Start(false);
  EXPECT_EQ(WriteToFile(3), 0);
  faults_.reset();
  EXPECT_EQ(WriteToFile(3), EFAULT);
  EXPECT_EQ(WriteToFile(4), EFAULT);
}

TEST_P(FailingSourceTest, AHangingFetchHoldsUpNobodyElse) {
  std::promise<void> reached;
  std::promise<void> go_on;
  std::shared_future<void> may_go_on = go_on.get_future().share();
  source_->before_fetch = [&](BlockIndex first, uint64_t) -> Status {
    if (first.raw() == kBadPage) {
      reached.set_value();
      may_go_on.wait();
    }
    return {};
  };
  Start(false);
  std::thread waits([this] { EXPECT_EQ(WriteToFile(kBadPage), 0); });
  reached.get_future().wait();
  for (uint64_t page = 0; page < kBadPage; ++page) {
    ASSERT_EQ(ReadPage(*memory_, page), PatternSource::PageOf(page)) << page;
  }
  EXPECT_GT(faults_->GetProgress().oldest_fault_ns, 0u);
  go_on.set_value();
  waits.join();
  faults_.reset();  // its threads are done with what lives here
}

using FailingSourceDeathTest = FailingSourceTest;

TEST_P(FailingSourceDeathTest, TheProcessEndsWithThreadsThatWait) {
  EXPECT_EXIT(
      {
        Start(false);
        std::thread in_memory([this] { ReadPage(*memory_, kBadPage); });
        std::thread in_kernel([this] { WriteToFile(kBadPage); });
        failed_.get_future().wait();
        _exit(7);
      },
      testing::ExitedWithCode(7), "pack 3 is damaged at byte 5; the machine cannot go on");
}

TEST_P(FailingSourceDeathTest, AThreadInMemoryDoesNotGoOnWithoutThePage) {
  EXPECT_DEATH(
      {
        Start(false);
        std::thread in_memory([this] {
          ReadPage(*memory_, kBadPage);
          _exit(0);
        });
        failed_.get_future().wait();
        faults_->CutOff();
        in_memory.join();
        _exit(0);
      },
      "");
}

INSTANTIATE_TEST_SUITE_P(Backings, FailingSourceTest,
                         testing::Values(MemoryBacking::kAnonymous, MemoryBacking::kMemfd));
INSTANTIATE_TEST_SUITE_P(Backings, FailingSourceDeathTest,
                         testing::Values(MemoryBacking::kAnonymous, MemoryBacking::kMemfd));

}  // namespace
}  // namespace pacsvisor
