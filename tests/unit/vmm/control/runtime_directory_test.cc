#include "vmm/control/runtime_directory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temporary_directory.h"
#include "vmm/control/unix_socket.h"

namespace pacsvisor {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class RuntimeDirectoryTest : public testing::Test {
 protected:
  bool Exists(const std::string& path) { return access((base_ + "/" + path).c_str(), F_OK) == 0; }
  mode_t Mode(const std::string& path) {
    struct stat status;
    CHECK(stat((base_ + "/" + path).c_str(), &status) == 0);
    return status.st_mode & 07777;
  }

  // A child that claims `name`, leaves a socket, tells by a pipe that it did, and waits to be
  // killed.
  pid_t StartHolder(const std::string& name) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
      const Result<RuntimeDirectory> directory = RuntimeDirectory::Claim(base_, name);
      const Result<UniqueFd> socket = ListenOnUnixSocket(directory->socket_path(), 1);
      const char byte = socket.ok() ? 1 : 0;
      CHECK(write(ready[1], &byte, 1) == 1);
      while (true) {
        pause();
      }
    }
    char byte = 0;
    CHECK(read(ready[0], &byte, 1) == 1 && byte == 1);
    close(ready[0]);
    close(ready[1]);
    return child;
  }
  static void Kill(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }

  TemporaryDirectory directory_;
  const std::string base_ = directory_.path().string() + "/pacsvisor";
};

TEST_F(RuntimeDirectoryTest, IsPrivateAndGoneAtTheEnd) {
  {
    const Result<RuntimeDirectory> claimed = RuntimeDirectory::Claim(base_, "pacs");
    ASSERT_TRUE(claimed.ok()) << claimed.error().message();
    EXPECT_EQ(claimed->path(), base_ + "/pacs");
    EXPECT_EQ(claimed->socket_path(), base_ + "/pacs/control.sock");
    EXPECT_EQ(Mode(""), 0700u);
    EXPECT_EQ(Mode("pacs"), 0700u);
    EXPECT_EQ(Mode("pacs/lock"), 0600u);
  }
  EXPECT_FALSE(Exists("pacs"));
}

TEST_F(RuntimeDirectoryTest, ANameInUseNamesItsHolder) {
  const pid_t holder = StartHolder("pacs");
  const Result<RuntimeDirectory> second = RuntimeDirectory::Claim(base_, "pacs");
  Kill(holder);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(second.error().message(),
              AllOf(HasSubstr("'pacs'"), HasSubstr("process " + std::to_string(holder))));
}

TEST_F(RuntimeDirectoryTest, OtherNamesAreFree) {
  const Result<RuntimeDirectory> first = RuntimeDirectory::Claim(base_, "a");
  const Result<RuntimeDirectory> second = RuntimeDirectory::Claim(base_, "b");
  EXPECT_TRUE(first.ok());
  EXPECT_TRUE(second.ok());
}

TEST_F(RuntimeDirectoryTest, WhatADeadMachineLeftIsTakenOver) {
  Kill(StartHolder("pacs"));
  EXPECT_TRUE(Exists("pacs/control.sock"));
  EXPECT_THAT(*ListRunningMachines(base_), IsEmpty());
  EXPECT_FALSE(FindRunningMachine(base_, "pacs").ok());
  const Result<RuntimeDirectory> claimed = RuntimeDirectory::Claim(base_, "pacs");
  ASSERT_TRUE(claimed.ok()) << claimed.error().message();
  EXPECT_TRUE(ListenOnUnixSocket(claimed->socket_path(), 1).ok());
}

TEST_F(RuntimeDirectoryTest, ListsThoseThatRunByName) {
  EXPECT_THAT(*ListRunningMachines(base_), IsEmpty());
  const pid_t b = StartHolder("b");
  const pid_t a = StartHolder("a");
  Kill(StartHolder("dead"));
  std::ofstream(base_ + "/file") << "x";
  const Result<std::vector<RunningMachine>> machines = ListRunningMachines(base_);
  const Result<RunningMachine> found = FindRunningMachine(base_, "b");
  Kill(a);
  Kill(b);
  ASSERT_TRUE(machines.ok());
  ASSERT_THAT(*machines, SizeIs(2));
  EXPECT_EQ(machines->at(0).name, "a");
  EXPECT_EQ(machines->at(0).pid, a);
  EXPECT_EQ(machines->at(1).pid, b);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->socket_path, base_ + "/b/control.sock");
}

TEST_F(RuntimeDirectoryTest, AListNeverKeepsAMachineFromStarting) {
  std::atomic<bool> done = false;
  std::thread lister([&] {
    while (!done) {
      EXPECT_TRUE(ListRunningMachines(base_).ok());
    }
  });
  for (int i = 0; i < 200; ++i) {
    const Result<RuntimeDirectory> claimed = RuntimeDirectory::Claim(base_, "pacs");
    EXPECT_TRUE(claimed.ok()) << claimed.error().message();
  }
  done = true;
  lister.join();
}

// Claims and releases from several threads: never two holders, never an error but "in use".
TEST_F(RuntimeDirectoryTest, ARaceHasOneWinnerAtATime) {
  std::atomic<int> holders = 0;
  std::atomic<int> wins = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        const Result<RuntimeDirectory> claimed = RuntimeDirectory::Claim(base_, "pacs");
        if (claimed.ok()) {
          EXPECT_EQ(++holders, 1);
          EXPECT_TRUE(Exists("pacs/lock"));
          ++wins;
          --holders;
        } else {
          EXPECT_EQ(claimed.error().code(), ErrorCode::kBusy) << claimed.error().message();
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_GT(wins, 0);
  EXPECT_FALSE(Exists("pacs"));
}

TEST_F(RuntimeDirectoryTest, ADirectoryOpenToOthersIsRefused) {
  ASSERT_EQ(mkdir(base_.c_str(), 0700), 0);
  ASSERT_EQ(chmod(base_.c_str(), 0777), 0);
  const Result<RuntimeDirectory> claimed = RuntimeDirectory::Claim(base_, "pacs");
  ASSERT_FALSE(claimed.ok());
  EXPECT_EQ(claimed.error().code(), ErrorCode::kPermissionDenied);
}

TEST_F(RuntimeDirectoryTest, ALinkInItsPlaceIsRefused) {
  ASSERT_EQ(mkdir(base_.c_str(), 0700), 0);
  ASSERT_EQ(symlink("/tmp", (base_ + "/pacs").c_str()), 0);
  EXPECT_FALSE(RuntimeDirectory::Claim(base_, "pacs").ok());
}

TEST_F(RuntimeDirectoryTest, APathTooLongForASocketIsRefusedBeforeAnythingIsMade) {
  const std::string name(60, 'n');
  const Result<RuntimeDirectory> claimed =
      RuntimeDirectory::Claim(base_ + "/" + std::string(60, 'b'), name);
  ASSERT_FALSE(claimed.ok());
  EXPECT_THAT(claimed.error().message(), HasSubstr("shorter"));
}

TEST_F(RuntimeDirectoryTest, NamesThatLeadElsewhereRunNothing) {
  const pid_t holder = StartHolder("pacs");
  for (const char* name : {"", ".", "..", "../pacsvisor/pacs", "pacs/", "a/../pacs"}) {
    EXPECT_FALSE(FindRunningMachine(base_, name).ok()) << name;
  }
  Kill(holder);
}

}  // namespace
}  // namespace pacsvisor
