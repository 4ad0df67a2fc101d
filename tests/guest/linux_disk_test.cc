// What a Linux does with disks beyond reading and writing, and what of it the host's files show.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "tests/guest/linux_guest.h"

namespace pacsvisor {
namespace {

uint64_t AllocatedBytes(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

std::vector<char> BytesOf(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

class LinuxDisk : public testing::Test {
 protected:
  // A disk of `mib` MiB, every byte of MiB number i being i + 1; in the guest vdc.
  std::string MakePatternDisk(uint64_t mib) {
    const std::string path = files_.Path("pattern.raw");
    std::ofstream stream(path, std::ios::binary);
    for (uint64_t i = 0; i < mib; ++i) {
      stream << std::string(kMiB, static_cast<char>(i + 1));
    }
    return path;
  }

  // Runs the job to its end; what it printed behind "pacs-job".
  std::string Run(const std::string& job, const std::vector<DiskConfig>& disks, uint32_t cpus = 1) {
    MachineConfig config =
        LinuxConfig(files_, job + "\necho pacs-job end; busybox poweroff -f", cpus, 256 * kMiB);
    config.disks.insert(config.disks.end(), disks.begin(), disks.end());
    GuestMachine guest(config);
    guest.Start();
    guest.Expect("pacs-job end");
    EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
    std::istringstream lines(guest.output());
    std::string said;
    for (std::string line; std::getline(lines, line);) {
      const size_t start = line.find("pacs-job ");
      if (start != std::string::npos) {
        said += line.substr(start + 9, line.find_last_not_of('\r') - start - 8) + "\n";
      }
    }
    return said;
  }

  GuestFiles files_;
};

TEST_F(LinuxDisk, DiscardGivesTheHostItsSpaceBackAndTouchesNothingElse) {
  const std::string disk = MakePatternDisk(48);
  const uint64_t before = AllocatedBytes(disk);
  const std::string said = Run(R"job(
    blkdiscard -o $((8 << 20)) -l $((16 << 20)) /dev/vdc; echo pacs-job discard $?
    blkdiscard -z -o $((32 << 20)) -l $((4 << 20)) /dev/vdc; echo pacs-job zeroes $?)job",
                               {{.path = disk, .serial = "pattern"}});
  EXPECT_EQ(said, "discard 0\nzeroes 0\nend\n");
  EXPECT_LE(AllocatedBytes(disk) + 16 * kMiB, before);
  const std::vector<char> bytes = BytesOf(disk);
  ASSERT_EQ(bytes.size(), 48 * kMiB);
  for (uint64_t i = 0; i < 48; ++i) {
    const bool zeroes = (i >= 8 && i < 24) || (i >= 32 && i < 36);
    const char value = zeroes ? '\0' : static_cast<char>(i + 1);
    const auto start = bytes.begin() + static_cast<ptrdiff_t>(i * kMiB);
    EXPECT_TRUE(std::all_of(start, start + static_cast<ptrdiff_t>(kMiB),
                            [value](char byte) { return byte == value; }))
        << "MiB " << i;
  }
}

TEST_F(LinuxDisk, TrimmedFileSystemShrinksOnTheHost) {
  const std::string disk = files_.MakeFileSystem("fs", 128 * kMiB);
  const std::string said = Run(R"job(
    mkdir -p /run/fs; mount /dev/vdc /run/fs
    head -c 4M /dev/urandom >/run/fs/kept; head -c 64M /dev/urandom >/run/fs/gone; sync
    echo pacs-job sum $(sha256sum </run/fs/kept)
    rm /run/fs/gone; sync; fstrim /run/fs; echo pacs-job trim $?; umount /run/fs)job",
                               {{.path = disk, .serial = "fs"}});
  EXPECT_THAT(said, testing::HasSubstr("trim 0\n"));
  EXPECT_LT(AllocatedBytes(disk), 32 * kMiB);
  ExpectSoundFileSystem(disk);
  RunOnHost("debugfs -R 'dump /kept " + files_.Path("kept") + "' " + disk);
  EXPECT_EQ(AllocatedBytes(files_.Path("kept")), 4 * kMiB);
  const std::string sum = AskHost("sha256sum <" + files_.Path("kept")).output.substr(0, 64);
  EXPECT_THAT(said, testing::HasSubstr("sum " + sum));
}

TEST_F(LinuxDisk, ReadOnlyDiskTakesNoWrite) {
  const std::string disk = MakePatternDisk(4);
  const std::vector<char> before = BytesOf(disk);
  const std::string said = Run(R"job(
    echo pacs-job flag $(blockdev --getro /dev/vdc)
    blockdev --setrw /dev/vdc; dd if=/dev/zero of=/dev/vdc bs=4k count=1 oflag=direct 2>/dev/null
    echo pacs-job write $?
    blkdiscard /dev/vdc 2>/dev/null; echo pacs-job discard $?
    dd if=/dev/vdc of=/dev/null bs=64k iflag=direct 2>/dev/null; echo pacs-job read $?)job",
                               {{.path = disk, .serial = "fixed", .read_only = true}});
  EXPECT_EQ(said, "flag 1\nwrite 1\ndiscard 1\nread 0\nend\n");
  EXPECT_EQ(BytesOf(disk), before);
}

TEST_F(LinuxDisk, HasItsSerialNumberAndAQueueForEachProcessor) {
  const std::string said = Run(R"job(
    echo pacs-job serial $(cat /sys/block/vdc/serial)
    echo pacs-job queues $(ls /sys/block/vdc/mq | wc -l)
    for cpu in 0 1 2 3; do
      taskset -c $cpu dd if=/dev/vdc of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null
    done
    device=$(basename $(readlink /sys/block/vdc/device))
    echo pacs-job used $(grep -c "$device-req\.[0-3]" /proc/interrupts) \
      $(grep "$device-req\." /proc/interrupts |
        awk '{ n = 0; for (i = 2; i <= 5; i++) n += $i; if (n >= 64) used++ } END { print used }'))job",
                               {{.path = files_.MakeDisk("scratch.raw", 16 * kMiB),
                                 .serial = "twenty-characters-xx",
                                 .queues = 4}},
                               4);
  EXPECT_EQ(said, "serial twenty-characters-xx\nqueues 4\nused 4 4\nend\n");
}

}  // namespace
}  // namespace pacsvisor
