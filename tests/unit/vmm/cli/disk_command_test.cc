// pacsvisor disk, as a user runs it; qemu-img is the oracle for what it makes.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/vmm/cli/program_fixture.h"
#include "tests/unit/vmm/cli/terminal_program.h"
#include "vmm/disk/image_lock.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class DiskCommandTest : public ProgramTest {
 protected:
  void Shell(const std::string& command) {
    const std::string line = "cd '" + directory_.path().string() + "' && " + command;
    ASSERT_EQ(std::system(line.c_str()), 0) << command;
  }
  // A qcow2 image of 64 MiB with something at 1 MiB and at 40 MiB.
  std::string MakeQcow2() {
    Shell(
        "qemu-img create -q -f qcow2 image.qcow2 64M && "
        "qemu-io -f qcow2 -c 'write -q -P 7 1M 3M' -c 'write -q -P 9 40M 64k' image.qcow2");
    return Path("image.qcow2");
  }
  // What is in the directory beside the files of the fixture itself.
  std::vector<std::string> Files() {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(directory_.path())) {
      const std::string name = entry.path().filename();
      if (name != "out" && name != "err" && name != "run") {
        files.push_back(name);
      }
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  struct stat StatusOf(const std::string& path) {
    struct stat status = {};
    EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
    return status;
  }
};

TEST_F(DiskCommandTest, CreateMakesASparseImageOfItsOwner) {
  EXPECT_EQ(Run({"disk", "create", Path("a.raw"), "3G"}).status, 0);
  const struct stat status = StatusOf(Path("a.raw"));
  EXPECT_EQ(status.st_size, 3l << 30);
  EXPECT_LE(status.st_blocks, 8);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_THAT(Files(), testing::ElementsAre("a.raw"));
}

TEST_F(DiskCommandTest, CreateReplacesNothingUnlessTold) {
  const std::string path = Write("a.raw", "precious");
  const Outcome refused = Run({"disk", "create", path, "1M"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("a.raw"), HasSubstr("--force")));
  EXPECT_EQ(Read(path), "precious");
  EXPECT_EQ(Run({"disk", "create", "--force", path, "1M"}).status, 0);
  EXPECT_EQ(StatusOf(path).st_size, 1 << 20);
  EXPECT_THAT(Files(), testing::ElementsAre("a.raw"));
}

TEST_F(DiskCommandTest, AnImageInUseIsNotReplaced) {
  const std::string path = Write("a.raw", std::string(512, 'x'));
  const Result<ImageLock> lock = ImageLock::Acquire(path, ImageLock::Mode::kShared, {});
  ASSERT_TRUE(lock.ok());
  const Outcome outcome = Run({"disk", "create", "--force", path, "1M"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("is in use by another program"));
  EXPECT_EQ(StatusOf(path).st_size, 512);
}

TEST_F(DiskCommandTest, ADirectoryIsNotReplaced) {
  fs::create_directory(Path("d"));
  EXPECT_EQ(Run({"disk", "create", "--force", Path("d"), "1M"}).status, 1);
  EXPECT_TRUE(fs::is_directory(Path("d")));
}

// Its layers would be taken for the new disk's.
TEST_F(DiskCommandTest, NothingIsMadeBesideTheLayersOfAnEarlierDisk) {
  fs::create_directory(Path("a.raw.layers"));
  Write("a.raw.layers/map", "x");
  const Outcome outcome = Run({"disk", "create", "--force", Path("a.raw"), "1M"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("a.raw.layers"));
  EXPECT_THAT(Files(), testing::ElementsAre("a.raw.layers"));
}

TEST_F(DiskCommandTest, CreateThatFailsLeavesNothing) {
  const Outcome outcome = Run({"disk", "create", Path("a.raw"), "1G"}, [] {
    const rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
    std::signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("a.raw"));
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(DiskCommandTest, ImportMakesTheSameDisk) {
  const std::string from = MakeQcow2();
  const Outcome outcome = Run({"disk", "import", from, Path("to.raw")});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("64.0 MiB, "), HasSubstr(" on disk, from a qcow2 image")));
  EXPECT_LT(StatusOf(Path("to.raw")).st_blocks, (8 << 20) / 512);  // sparse
  Shell("qemu-img compare -q -f qcow2 -F raw image.qcow2 to.raw");
  EXPECT_THAT(Files(), testing::ElementsAre("image.qcow2", "to.raw"));
}

TEST_F(DiskCommandTest, ImportReadsWhatQemuImgReads) {
  MakeQcow2();
  for (const std::string format : {"vhdx", "vmdk", "vdi", "raw"}) {
    SCOPED_TRACE(format);
    Shell("qemu-img convert -f qcow2 -O " + format + " image.qcow2 from");
    const Outcome outcome = Run({"disk", "import", Path("from"), Path(format + ".raw")});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    Shell("qemu-img compare -q -f qcow2 -F raw image.qcow2 " + format + ".raw && rm from");
  }
}

TEST_F(DiskCommandTest, TheFormatIsAsTheUserSays) {
  const std::string from = MakeQcow2();
  EXPECT_EQ(Run({"disk", "import", "--format", "raw", from, Path("same.raw")}).status, 0);
  const Outcome wrong = Run({"disk", "import", "--format", "vhdx", from, Path("none.raw")});
  EXPECT_EQ(wrong.status, 1);
  EXPECT_THAT(wrong.err, HasSubstr("cannot be read as vhdx"));
  Shell("cmp image.qcow2 same.raw");
  EXPECT_THAT(Files(), testing::ElementsAre("image.qcow2", "same.raw"));
}

// Whoever made the image may not choose which files of this host become part of a guest.
TEST_F(DiskCommandTest, OtherFilesAreReadOnlyWhenTold) {
  MakeQcow2();
  Write("secret", std::string(1 << 20, 's'));
  Shell(
      "qemu-img create -q -f qcow2 -b secret -F raw child.qcow2 && "
      "qemu-img create -q -f vmdk -o subformat=monolithicFlat flat.vmdk 1M");
  for (const char* name : {"child.qcow2", "flat.vmdk"}) {
    const Outcome refused = Run({"disk", "import", Path(name), Path("to.raw")});
    EXPECT_EQ(refused.status, 1);
    EXPECT_THAT(refused.err, HasSubstr("--follow"));
    EXPECT_FALSE(fs::exists(Path("to.raw")));
    EXPECT_EQ(Run({"disk", "import", "--follow", "--force", Path(name), Path("to.raw")}).status, 0);
    fs::remove(Path("to.raw"));
  }
}

TEST_F(DiskCommandTest, ImportSaysWhatIsMissing) {
  const std::string from = MakeQcow2();
  const Outcome outcome =
      Run({"disk", "import", from, Path("to.raw")}, [] { setenv("PATH", "/nonexistent", 1); });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("qemu-img is not installed"), HasSubstr("qemu-utils")));
  EXPECT_THAT(Files(), testing::ElementsAre("image.qcow2"));
}

TEST_F(DiskCommandTest, ImportUnpacksNothing) {
  const std::string from = Write("a.gz", std::string("\x1f\x8b\x08") + std::string(600, 'x'));
  const Outcome outcome = Run({"disk", "import", from, Path("to.raw")});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("gzip -dc"));
}

TEST_F(DiskCommandTest, ImportOfAnImageInUseIsRefused) {
  const std::string from = MakeQcow2();
  const Result<ImageLock> lock = ImageLock::Acquire(from, ImageLock::Mode::kExclusive, {});
  ASSERT_TRUE(lock.ok());
  const Outcome outcome = Run({"disk", "import", from, Path("to.raw")});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("is in use by"));
}

// A full disk ends a write the same way, with another errno.
TEST_F(DiskCommandTest, ImportThatFailsLeavesNothing) {
  const std::string from = MakeQcow2();
  const Outcome outcome = Run({"disk", "import", from, Path("to.raw")}, [] {
    const rlimit limit = {.rlim_cur = 2 << 20, .rlim_max = 2 << 20};
    std::signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("qemu-img could not convert"), HasSubstr("was not made")));
  EXPECT_THAT(Files(), testing::ElementsAre("image.qcow2"));
}

// In place of qemu-img, one that never ends.
TEST_F(DiskCommandTest, CtrlCLeavesNothing) {
  const std::string from = MakeQcow2();
  fs::create_directory(Path("bin"));
  const std::string program = Write("bin/qemu-img",
                                    "#!/bin/sh\n"
                                    "[ $1 = info ] && { echo '{\"virtual-size\":1024}'; exit; }\n"
                                    "printf '    (45.00/100%%)\\r'\n"
                                    "sleep 2\n"
                                    "printf '    (50.00/100%%)\\r'\n"
                                    "exec sleep 600\n");
  ASSERT_EQ(chmod(program.c_str(), 0700), 0);
  const std::string before = getenv("PATH");
  setenv("PATH", (Path("bin") + ":" + before).c_str(), 1);
  TerminalProgram import(base_, {"disk", "import", from, Path("to.raw")});
  setenv("PATH", before.c_str(), 1);
  EXPECT_THAT(import.ReadUntil("50%"),
              HasSubstr("importing  [######------]  50%  512 B of 1.00 KiB"));
  import.Type("\x03");
  EXPECT_EQ(import.Wait(), 1);
  EXPECT_THAT(import.shown(), HasSubstr("was interrupted"));
  EXPECT_THAT(Files(), testing::ElementsAre("bin", "image.qcow2"));
}

TEST_F(DiskCommandTest, InfoTellsWhatItIsAndWhoUsesIt) {
  const std::string path = Write("a.raw", std::string(1024, 'x'));
  EXPECT_THAT(Run({"disk", "info", path}).out,
              AllOf(HasSubstr("kind     a raw image\n"), HasSubstr("1.00 KiB (1024 bytes)\n"),
                    HasSubstr("in use   no\n"), Not(HasSubstr("layers"))));
  const Result<ImageLock> lock = ImageLock::Acquire(
      path, ImageLock::Mode::kExclusive,
      {.machine = "pacs", .record_directory = fs::path(base_) / ".images", .pid = 4711});
  ASSERT_TRUE(lock.ok());
  ASSERT_EQ(chmod(base_.c_str(), 0700), 0);
  ASSERT_EQ(chmod((base_ + "/.images").c_str(), 0700), 0);
  EXPECT_THAT(Run({"disk", "info", path}).out, HasSubstr("in use   by machine 'pacs' (pid 4711)"));
  const nlohmann::json json = nlohmann::json::parse(Run({"disk", "info", "--json", path}).out);
  EXPECT_EQ(json.at("kind"), "a raw image");
  EXPECT_EQ(json.at("size_bytes"), 1024);
  EXPECT_EQ(json.at("holders"), "machine 'pacs' (pid 4711)");
  EXPECT_EQ(json.at("layers"), false);
}

TEST_F(DiskCommandTest, InfoTellsTheSizeOfTheDiskInAnImage) {
  const std::string image = MakeQcow2();
  const nlohmann::json json = nlohmann::json::parse(Run({"disk", "info", "--json", image}).out);
  EXPECT_EQ(json.at("size_bytes"), 64 << 20);
  EXPECT_EQ(json.at("file_bytes"), StatusOf(image).st_size);
  EXPECT_THAT(Run({"disk", "info", image}).out, HasSubstr("size     64.0 MiB (67108864 bytes)"));
  const Outcome without =
      Run({"disk", "info", "--json", image}, [] { setenv("PATH", "/nonexistent", 1); });
  EXPECT_EQ(without.status, 0);
  EXPECT_TRUE(nlohmann::json::parse(without.out).at("size_bytes").is_null());
}

TEST_F(DiskCommandTest, CheckFindsNothingWrongWithGoodImages) {
  EXPECT_EQ(Run({"disk", "check", MakeQcow2()}).status, 0);
  const Outcome raw = Run({"disk", "check", Write("a.raw", std::string(1024, 'x'))});
  EXPECT_EQ(raw.status, 0);
  EXPECT_THAT(raw.out, HasSubstr("nothing is wrong with it"));
}

TEST_F(DiskCommandTest, CheckFindsWhatIsWrong) {
  const Outcome odd = Run({"disk", "check", Write("odd", std::string(1000, 'x'))});
  EXPECT_EQ(odd.status, 1);
  EXPECT_THAT(odd.out, HasSubstr("problem  it has 1000 bytes"));
  EXPECT_EQ(Run({"disk", "check", Write("empty", "")}).status, 1);
  const std::string image = MakeQcow2();
  // The refcount of the first cluster, which the header is in (qcow2 specification, 4).
  Shell("printf '\\000\\000' | dd of=image.qcow2 bs=1 seek=131072 conv=notrunc status=none");
  const Outcome broken = Run({"disk", "check", "--json", image});
  EXPECT_EQ(broken.status, 1);
  EXPECT_EQ(nlohmann::json::parse(broken.out).at("problems").size(), 1u);
}

TEST_F(DiskCommandTest, CheckReportsLayersThatAreLeftOver) {
  const std::string path = Write("a.raw", std::string(1024, 'x'));
  fs::create_directory(Path("a.raw.layers"));
  EXPECT_THAT(Run({"disk", "check", path}).out, Not(HasSubstr("layers")));
  Write("a.raw.layers/map", "x");
  EXPECT_THAT(Run({"disk", "check", path}).out, HasSubstr("the image alone is not the disk"));
  EXPECT_EQ(Run({"disk", "import", path, Path("to.raw")}).status, 1);
}

TEST_F(DiskCommandTest, WhatIsNoImageIsNamed) {
  for (const std::string path : {"/dev/null", "/", "/nonexistent"}) {
    const Outcome outcome = Run({"disk", "info", path});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("'" + path + "'"));
  }
}

}  // namespace
}  // namespace pacsvisor
