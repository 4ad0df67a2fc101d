#include "vmm/store/store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/temporary_directory.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class StoreFilesTest : public testing::Test {
 protected:
  void Put(const std::string& path, const std::string& text) {
    const auto file = files_->CreateFile(path).value();
    ASSERT_TRUE(file->Append({reinterpret_cast<const uint8_t*>(text.data()), text.size()}).ok());
    ASSERT_TRUE(file->Sync().ok());
  }
  std::string Get(const std::string& path) {
    const auto file = files_->OpenForRead(path).value();
    std::string text(file->SizeBytes().value(), '\0');
    EXPECT_TRUE(file->ReadAt(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}).ok());
    return text;
  }

  const TemporaryDirectory directory_;
  const std::shared_ptr<StoreFiles> files_ =
      StoreFiles::OpenDirectory(directory_.path().string()).value();
};

TEST_F(StoreFilesTest, FilesAreMadeRenamedListedAndRemoved) {
  ASSERT_TRUE(files_->CreateDirectory("a").ok());
  ASSERT_TRUE(files_->CreateDirectory("a").ok());  // again
  Put("a/two", "2");
  Put("a/one", "1");
  EXPECT_THAT(files_->List(".").value(), ElementsAre("a"));
  EXPECT_THAT(files_->List("a").value(), ElementsAre("one", "two"));
  ASSERT_TRUE(files_->Rename("a/two", "a/one").ok());
  EXPECT_EQ(Get("a/one"), "2");
  EXPECT_TRUE(files_->SyncDirectory("a").ok());
  EXPECT_TRUE(files_->SyncDirectory(".").ok());
  ASSERT_TRUE(files_->Remove("a/one").ok());
  EXPECT_THAT(files_->List("a").value(), ElementsAre());
}

// Beyond what is written out while it grows.
TEST_F(StoreFilesTest, ALargeFileHoldsWhatWasAppended) {
  std::vector<uint8_t> expected;
  {
    const auto file = files_->CreateFile("large").value();
    for (size_t i = 1; expected.size() < 40'000'000; ++i) {
      const std::vector<uint8_t> piece(i * 7919 % 3'000'000, static_cast<uint8_t>(i));
      ASSERT_TRUE(file->Append(piece).ok());
      expected.insert(expected.end(), piece.begin(), piece.end());
    }
    ASSERT_TRUE(file->Sync().ok());
    EXPECT_EQ(file->SizeBytes().value(), expected.size());
  }
  std::vector<uint8_t> bytes(expected.size());
  ASSERT_TRUE(files_->OpenForRead("large").value()->ReadAt(0, bytes).ok());
  EXPECT_TRUE(bytes == expected);
}

TEST_F(StoreFilesTest, AFileIsMadeOnce) {
  Put("file", "x");
  EXPECT_EQ(files_->CreateFile("file").error().code(), ErrorCode::kBusy);
}

TEST_F(StoreFilesTest, NobodyElseMayReadThem) {
  Put("file", "x");
  ASSERT_TRUE(files_->CreateDirectory("folder").ok());
  struct stat status {};
  ASSERT_EQ(::stat((directory_.path() / "file").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 077, 0u);
  ASSERT_EQ(::stat((directory_.path() / "folder").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 077, 0u);
}

TEST_F(StoreFilesTest, WhatRootMakesInAUsersStoreIsTheUsers) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "only root can make files for others";
  }
  constexpr uid_t kUser = 12345;
  ASSERT_EQ(::chown(directory_.path().c_str(), kUser, kUser), 0);
  const auto files = StoreFiles::OpenDirectory(directory_.path().string()).value();
  ASSERT_TRUE(files->CreateDirectory("folder").ok());
  ASSERT_TRUE(files->CreateFile("folder/file").ok());
  ASSERT_TRUE(files->AcquireLock("locked", StoreFiles::LockMode::kExclusive, "").ok());
  for (const char* name : {"folder", "folder/file", "locked"}) {
    struct stat status {};
    ASSERT_EQ(::stat((directory_.path() / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_uid, kUser) << name;
    EXPECT_EQ(status.st_gid, kUser) << name;
  }
}

TEST_F(StoreFilesTest, WhatIsMissingIsNotFound) {
  EXPECT_EQ(files_->OpenForRead("file").error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(files_->List("folder").error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(StoreFiles::OpenDirectory((directory_.path() / "no").string()).error().code(),
            ErrorCode::kNotFound);
}

TEST_F(StoreFilesTest, ReadingPastTheEndIsCorrupt) {
  Put("file", "12345");
  std::vector<uint8_t> bytes(4);
  const auto file = files_->OpenForRead("file").value();
  EXPECT_TRUE(file->ReadAt(1, bytes).ok());
  const Status past = file->ReadAt(2, bytes);
  EXPECT_EQ(past.error().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(past.error().message(), HasSubstr("file"));
}

TEST_F(StoreFilesTest, EverythingIsReachedThroughTheOpenDirectory) {
  const std::filesystem::path moved = directory_.path().string() + "-moved";
  std::filesystem::rename(directory_.path(), moved);
  Put("file", "x");
  EXPECT_TRUE(std::filesystem::exists(moved / "file"));
  std::filesystem::rename(moved, directory_.path());
}

TEST_F(StoreFilesTest, LinksAreNotFollowed) {
  std::filesystem::create_symlink("/etc/hostname", directory_.path() / "link");
  EXPECT_FALSE(files_->OpenForRead("link").ok());
}

TEST_F(StoreFilesTest, AnExclusiveLockKeepsOthersOutAndNamesItsHolder) {
  using Mode = StoreFiles::LockMode;
  auto lock = files_->AcquireLock("lock", Mode::kExclusive, "pid 123, machine pacs").value();
  for (const Mode mode : {Mode::kExclusive, Mode::kShared}) {
    const auto refused = files_->AcquireLock("lock", mode, "me");
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), ErrorCode::kBusy);
    EXPECT_THAT(refused.error().message(), HasSubstr("pid 123, machine pacs"));
  }
  lock.reset();
  auto first = files_->AcquireLock("lock", Mode::kShared, "one").value();
  auto second = files_->AcquireLock("lock", Mode::kShared, "two").value();
  EXPECT_FALSE(files_->AcquireLock("lock", Mode::kExclusive, "me").ok());
}

TEST_F(StoreFilesTest, TheLockOfADeadProcessIsFree) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto files = StoreFiles::OpenDirectory(directory_.path().string()).value();
    const auto lock = files->AcquireLock("lock", StoreFiles::LockMode::kExclusive, "child");
    (void)!::write(ready[1], lock.ok() ? "y" : "n", 1);
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  EXPECT_FALSE(files_->AcquireLock("lock", StoreFiles::LockMode::kExclusive, "me").ok());
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(files_->AcquireLock("lock", StoreFiles::LockMode::kExclusive, "me").ok());
  ::close(ready[0]);
  ::close(ready[1]);
}

}  // namespace
}  // namespace pacsvisor
