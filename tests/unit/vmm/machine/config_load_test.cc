#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/temporary_directory.h"
#include "vmm/base/unique_fd.h"
#include "vmm/machine/config.h"

namespace pacsvisor {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ConfigLoad : public testing::Test {
 protected:
  void SetUp() override {
    Write("vmlinuz", "kernel");
    Write("disk.raw", std::string(4096, '\0'));
  }

  std::string Write(const std::string& name, const std::string& bytes) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  Result<MachineConfig> Load(const std::string& rest, const std::string& memory = "64M") {
    return LoadConfig(Write("VM.toml", "name = \"m\"\nmemory = \"" + memory +
                                           "\"\nboot.kernel = \"vmlinuz\"\n" + rest));
  }
  std::string Refusal(const std::string& rest, const std::string& memory = "64M") {
    const Result<MachineConfig> config = Load(rest, memory);
    return config.ok() ? "(no error)" : config.error().message();
  }
  std::string At(int line, const std::string& text) {
    return directory_ + "/VM.toml:" + std::to_string(line) + ": " + text;
  }

  TemporaryDirectory temporary_;
  const std::string directory_ = temporary_.path().string();
};

TEST_F(ConfigLoad, PathsAreRelativeToTheFile) {
  const Result<MachineConfig> config = Load("[[disk]]\npath = \"disk.raw\"\n");
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->boot.kernel, directory_ + "/vmlinuz");
  EXPECT_EQ(config->disks[0].path, directory_ + "/disk.raw");
}

TEST_F(ConfigLoad, AFileThatIsNotThereIsNamed) {
  const Result<MachineConfig> config = LoadConfig(directory_ + "/none.toml");
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(config.error().message(), HasSubstr("none.toml"));
  EXPECT_THAT(LoadConfig(directory_).error().message(), HasSubstr("is a directory"));
}

TEST_F(ConfigLoad, ProblemsOfAllKindsAreOneReportInTheFilesOrder) {
  EXPECT_EQ(Refusal("cpus = 99\nfoo_bar = 1\n[[disk]]\npath = \"none.raw\"\ncache = \"warm\"\n"),
            At(4, "cpus = 99 is out of range: give 1 to 16") + "\n" +
                At(5,
                   "unknown key 'foo_bar': known here: name, cpus, memory, cpu, "
                   "memory_backing, tracking, boot, disk, net, console, agent, store, schedule, "
                   "sandbox, limits") +
                "\n" +
                At(7, "the disk '" + directory_ +
                          "/none.raw' is not there: correct the path (relative ones start at this "
                          "file)") +
                "\n" + At(8, "cache = \"warm\" is not known: use \"writeback\" or \"none\""));
}

TEST_F(ConfigLoad, WhatFollowsFromAProblemIsNotReportedAgain) {
  EXPECT_EQ(Refusal("", "lots"),
            At(2,
               "memory = \"lots\" is no size: give bytes, or a number with K, M, G or T (powers "
               "of 1024), such as \"512M\" or \"2G\""));
  const Result<MachineConfig> config =
      LoadConfig(Write("VM.toml", "name = \"m\"\nmemory = \"64M\"\nboot = 1\n"));
  EXPECT_THAT(config.error().message(), Not(HasSubstr("\n")));
}

TEST_F(ConfigLoad, MoreMemoryThanTheHostHasIsRefused) {
  EXPECT_THAT(Refusal("", "1000T"),
              HasSubstr(At(2, "a memory of 1000T is more than this host has")));
}

TEST_F(ConfigLoad, AKernelIsAFileWithBytes) {
  std::filesystem::create_directory(directory_ + "/dir");
  Write("empty", "");
  ASSERT_EQ(mkfifo((directory_ + "/fifo").c_str(), 0600), 0);
  for (const auto& [name, text] : {std::pair("dir", "is a directory"),
                                   {"empty", "is empty"},
                                   {"fifo", "no regular file"},
                                   {"none", "is not there"}}) {
    EXPECT_THAT(Refusal(std::string("boot.initrd = \"") + name + "\"\n"),
                AllOf(HasSubstr(At(4, "the initrd")), HasSubstr(text)));
  }
}

TEST_F(ConfigLoad, ADiskHasWholeSectors) {
  Write("odd.raw", std::string(513, 'x'));
  Write("empty.raw", "");
  for (const char* name : {"odd.raw", "empty.raw"}) {
    EXPECT_THAT(Refusal(std::string("[[disk]]\npath = \"") + name + "\"\n"),
                HasSubstr("whole sectors"));
  }
}

TEST_F(ConfigLoad, TwoNamesOfOneFileAreOneDisk) {
  std::filesystem::create_symlink("disk.raw", directory_ + "/link.raw");
  std::filesystem::create_hard_link(directory_ + "/disk.raw", directory_ + "/hard.raw");
  for (const char* name : {"link.raw", "hard.raw"}) {
    EXPECT_THAT(
        Refusal(std::string("[[disk]]\npath = \"disk.raw\"\n[[disk]]\npath = \"") + name + "\"\n"),
        AllOf(HasSubstr(":7: "), HasSubstr("the same file as the disk on line 5")));
  }
}

TEST_F(ConfigLoad, TheConsolesLogIsNoDisk) {
  EXPECT_THAT(Refusal("console.log = \"disk.raw\"\n[[disk]]\npath = \"disk.raw\"\n"),
              HasSubstr(At(4, "the log")));
  EXPECT_TRUE(Load("console.log = \"new.log\"\n").ok());
  EXPECT_THAT(Refusal("console.log = \"none/new.log\"\n"), HasSubstr("cannot be created"));
}

TEST_F(ConfigLoad, AStoreIsADirectoryOrCanBecomeOne) {
  EXPECT_TRUE(Load("store.path = \"new\"\n").ok());
  EXPECT_THAT(Refusal("store.path = \"disk.raw\"\n"), HasSubstr("a store is a directory"));
}

TEST_F(ConfigLoad, ATapThatIsNotThereIsNamed) {
  EXPECT_THAT(Refusal("[[net]]\nbackend = \"tap\"\ninterface = \"pvnone7\"\n"), HasSubstr(":6: "));
}

TEST_F(ConfigLoad, APortInUseIsNamedWithItsLine) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {.sin_family = AF_INET};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  // sockaddr_in is what these calls read and write behind a sockaddr of family AF_INET.
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(fd.get(), generic, length), 0);
  ASSERT_EQ(listen(fd.get(), 1), 0);
  ASSERT_EQ(getsockname(fd.get(), generic, &length), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  EXPECT_THAT(Refusal("[[net]]\nbackend = \"user\"\nforward = [\"127.0.0.1:" + port + ":1\"]\n"),
              AllOf(HasSubstr(":6: "), HasSubstr("port " + port + " of this host is in use")));
}

TEST_F(ConfigLoad, AnAddressThatIsNotThisHostsIsNamed) {
  EXPECT_THAT(Refusal("[[net]]\nbackend = \"user\"\nforward = [\"192.0.2.1:4242:1\"]\n"),
              HasSubstr("this host has no address 192.0.2.1"));
}

TEST_F(ConfigLoad, WhatThisUserMayNotReadOrWriteIsNamed) {
  ASSERT_EQ(chmod((directory_ + "/disk.raw").c_str(), 0444), 0);
  ASSERT_EQ(chmod((directory_ + "/vmlinuz").c_str(), 0), 0);
  ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
  const std::string path = Write("VM.toml",
                                 "name = \"m\"\nmemory = \"64M\"\nboot.kernel = \"vmlinuz\"\n"
                                 "[[disk]]\npath = \"disk.raw\"\n");
  if (getuid() == 0) {
    ASSERT_EQ(seteuid(65534), 0);  // root's rights pass over a file's mode
  }
  const Result<MachineConfig> config = LoadConfig(path);
  ASSERT_EQ(seteuid(getuid()), 0);
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(config.error().message(),
              AllOf(HasSubstr("the kernel"), HasSubstr("cannot be opened"),
                    HasSubstr("cannot be written")));
}

}  // namespace
}  // namespace pacsvisor
