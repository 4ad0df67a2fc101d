#include "vmm/disk/disk_image.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "tests/support/temporary_directory.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;
using testing::Not;

class DiskImageTest : public testing::Test {
 protected:
  DiskImageOptions Options(const std::string& machine, bool read_only = false) {
    return {.path = image_, .read_only = read_only, .owner = {machine, records_}};
  }
  size_t RecordCount() const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(records_)) {
      ++count;
    }
    return count;
  }
  std::string OpenError(const DiskImageOptions& options) {
    const Result<DiskImage> image = DiskImage::Open(options);
    return image.ok() ? "opened" : image.error().message();
  }

  TemporaryDirectory directory_;
  std::filesystem::path image_ = directory_.MakeFile("disk.raw", 1 << 20);
  std::filesystem::path records_ = directory_.path() / "records";
};

TEST_F(DiskImageTest, KnowsItsSize) {
  const DiskImage image = DiskImage::Open(Options("pacs")).value();
  EXPECT_EQ(image.size_bytes(), 1u << 20);
  EXPECT_FALSE(image.is_block_device());
  EXPECT_EQ(image.direct_fd(), -1);
}

TEST_F(DiskImageTest, RefusesASizeThatIsNoMultipleOfASector) {
  std::filesystem::resize_file(image_, 1000);
  EXPECT_THAT(OpenError(Options("pacs")),
              HasSubstr("has 1000 bytes, which is not a multiple of 512"));
  EXPECT_THAT(OpenError(Options("pacs")), HasSubstr("truncate -s 1024"));
}

TEST_F(DiskImageTest, RefusesAnEmptyFile) {
  std::filesystem::resize_file(image_, 0);
  EXPECT_THAT(OpenError(Options("pacs")), HasSubstr("is empty"));
}

TEST_F(DiskImageTest, RefusesWhatIsNoDisk) {
  DiskImageOptions options = Options("pacs");
  options.path = directory_.path();
  EXPECT_THAT(OpenError(options), HasSubstr("neither a file nor a block device"));
  options.path = "/dev/null";
  EXPECT_THAT(OpenError(options), HasSubstr("neither a file nor a block device"));
  options.path = directory_.path() / "fifo";
  ASSERT_EQ(::mkfifo(options.path.c_str(), 0600), 0);
  EXPECT_THAT(OpenError(options), HasSubstr("neither a file nor a block device"));
}

TEST_F(DiskImageTest, NamesAMissingImage) {
  DiskImageOptions options = Options("pacs");
  options.path = directory_.path() / "absent.raw";
  EXPECT_THAT(OpenError(options), HasSubstr("absent.raw: No such file"));
}

TEST_F(DiskImageTest, NamesTheMachineThatHoldsIt) {
  const DiskImage held = DiskImage::Open(Options("radiology")).value();
  const Result<DiskImage> second = DiskImage::Open(Options("pacs"));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(second.error().message(),
              HasSubstr(fmt::format("in use by machine 'radiology' (pid {})", ::getpid())));
}

TEST_F(DiskImageTest, NamesTheHolderByWhicheverPath) {
  const DiskImage held = DiskImage::Open(Options("radiology")).value();
  DiskImageOptions options = Options("pacs");
  options.path = directory_.path() / "other.raw";
  std::filesystem::create_hard_link(image_, options.path);
  EXPECT_THAT(OpenError(options), HasSubstr("machine 'radiology'"));
}

TEST_F(DiskImageTest, ReadersShareWritersDoNot) {
  const DiskImage first = DiskImage::Open(Options("one", true)).value();
  const DiskImage second = DiskImage::Open(Options("two", true)).value();
  const std::string error = OpenError(Options("three"));
  EXPECT_THAT(error, HasSubstr("machine 'one'"));
  EXPECT_THAT(error, HasSubstr("machine 'two'"));
}

TEST_F(DiskImageTest, HoldersAreToldWithoutAClaim) {
  const std::filesystem::path records = Options("pacs").owner.record_directory;
  EXPECT_EQ(HoldersOfImage(image_, records).value(), "");
  {
    const DiskImage reader = DiskImage::Open(Options("radiology", true)).value();
    EXPECT_THAT(HoldersOfImage(image_, records).value(), HasSubstr("machine 'radiology'"));
    EXPECT_THAT(HoldersOfImage(image_, {}).value(), HasSubstr("another program"));
    EXPECT_TRUE(DiskImage::Open(Options("pacs", true)).ok());  // asking was no claim
  }
  EXPECT_EQ(HoldersOfImage(image_, records).value(), "");
  EXPECT_FALSE(HoldersOfImage("/nonexistent", records).ok());
}

TEST_F(DiskImageTest, IsFreeOnceClosedAndLeavesNoRecord) {
  {
    const DiskImage held = DiskImage::Open(Options("radiology")).value();
    EXPECT_EQ(RecordCount(), 1u);
  }
  EXPECT_EQ(RecordCount(), 0u);
  EXPECT_TRUE(DiskImage::Open(Options("pacs")).ok());
}

TEST_F(DiskImageTest, LockOfAProgramWithoutARecordIsStillALock) {
  DiskImageOptions unnamed = Options("radiology");
  unnamed.owner.record_directory.clear();
  const DiskImage held = DiskImage::Open(unnamed).value();
  EXPECT_THAT(OpenError(Options("pacs")), HasSubstr("in use by another program"));
}

TEST_F(DiskImageTest, KilledHolderLeavesNoStaleClaim) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const Result<DiskImage> held = DiskImage::Open(Options("radiology"));
    const char ok = held.ok() ? 'y' : 'n';
    [[maybe_unused]] const ssize_t written = ::write(ready[1], &ok, 1);
    ::pause();
    ::_exit(0);
  }
  char ok = 0;
  ASSERT_EQ(::read(ready[0], &ok, 1), 1);
  ASSERT_EQ(ok, 'y');
  EXPECT_THAT(OpenError(Options("pacs")),
              HasSubstr(fmt::format("machine 'radiology' (pid {})", child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(RecordCount(), 1u) << "a killed process cannot clean up";
  const DiskImage image = DiskImage::Open(Options("pacs")).value();
  const std::string error = OpenError(Options("third"));
  EXPECT_THAT(error, HasSubstr("machine 'pacs'"));
  EXPECT_THAT(error, Not(HasSubstr("radiology")));
  EXPECT_EQ(RecordCount(), 1u) << "whoever meets a leftover removes it";
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(DiskImageTest, RecordThatCannotBeWrittenDoesNotKeepTheDiskFromBeingUsed) {
  std::ofstream(records_) << "a file in the way";
  EXPECT_TRUE(DiskImage::Open(Options("pacs")).ok());
}

TEST_F(DiskImageTest, OpensPastThePageCacheWhereTheFileSystemCan) {
  DiskImageOptions options = Options("pacs");
  options.cache = DiskCache::kNone;
  const DiskImage image = DiskImage::Open(options).value();
  const int probe = ::open(image_.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  EXPECT_EQ(image.direct_fd() >= 0, probe >= 0);
  if (probe >= 0) {
    ::close(probe);
    EXPECT_GE(image.direct_alignment().offset_bytes, 1u);
    EXPECT_LE(image.direct_alignment().offset_bytes, 65536u);
  }
}

}  // namespace
}  // namespace pacsvisor
