#include "tests/guest/linux_guest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

const std::string kGuestFiles = PACSVISOR_GUEST_FILES;

}  // namespace

void RunOnHost(const std::string& command) {
  EXPECT_EQ(std::system((command + " >/dev/null 2>&1").c_str()), 0) << command;
}

HostResult AskHost(const std::string& command) {
  HostResult result;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) {
    return result;
  }
  char buffer[4096];
  while (const size_t got = std::fread(buffer, 1, sizeof(buffer), pipe)) {
    result.output.append(buffer, got);
  }
  const int status = ::pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

void ExpectSoundFileSystem(const std::string& image) {
  const HostResult replay = AskHost("e2fsck -p " + image);
  EXPECT_LE(replay.status, 1) << replay.output;
  std::istringstream lines(replay.output);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_THAT(line,
                testing::ContainsRegex("recovering journal|(Clearing|Truncating) orphaned inode|"
                                       "^  *.*inode.*orphan|: clean,|^$"));
  }
  const HostResult whole = AskHost("e2fsck -fn " + image);
  EXPECT_EQ(whole.status, 0) << whole.output;
}

GuestFiles::GuestFiles() {
  char pattern[] = "/tmp/pacsvisor-guest-XXXXXX";
  if (::mkdtemp(pattern) == nullptr) {
    ADD_FAILURE() << "no temporary directory";
    std::abort();
  }
  directory_ = pattern;
  EXPECT_TRUE(fs::exists(kGuestFiles + "/vmlinux"))
      << "the guests' files are missing: run 'bash tests/guest/prepare.sh'";
}

GuestFiles::~GuestFiles() { fs::remove_all(directory_); }

std::string GuestFiles::CopyRoot() const {
  RunOnHost("cp --sparse=always " + kGuestFiles + "/tools/root.raw " + Path("root.raw"));
  return Path("root.raw");
}

std::string GuestFiles::MakeJob(const std::string& script,
                                const std::vector<std::string>& programs) const {
  fs::create_directory(Path("job"));
  std::ofstream(Path("job/run")) << "#!/bin/bash\n" << script << "\n";
  fs::permissions(Path("job/run"), fs::perms::owner_all);
  for (const std::string& program : programs) {
    fs::copy(program, Path("job/" + fs::path(program).filename().string()),
             fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  }
  RunOnHost("mkfs.ext4 -q -L job -d " + Path("job") + " " + Path("job.raw") + " 32M");
  return Path("job.raw");
}

std::string GuestFiles::MakeDisk(const std::string& name, uint64_t size_bytes) const {
  std::ofstream(Path(name)).close();
  fs::resize_file(Path(name), size_bytes);
  return Path(name);
}

std::string GuestFiles::MakeFileSystem(const std::string& label, uint64_t size_bytes) const {
  const std::string path = MakeDisk(label + ".raw", size_bytes);
  RunOnHost("mkfs.ext4 -q -L " + label + " " + path);
  return path;
}

MachineConfig LinuxConfig(const GuestFiles& files, const std::string& job, uint32_t cpus,
                          uint64_t memory_bytes, const std::vector<std::string>& programs) {
  MachineConfig config;
  config.name = "linux";
  config.cpus = cpus;
  config.memory_bytes = memory_bytes;
  config.boot.kernel = kGuestFiles + "/vmlinux";
  config.boot.cmdline = "console=ttyS0 root=/dev/vda rw quiet panic=-1";
  config.disks.push_back({.path = files.CopyRoot(), .serial = "root"});
  config.disks.push_back(
      {.path = files.MakeJob(job, programs), .serial = "job", .read_only = true});
  return config;
}

std::string ConfigText(const MachineConfig& config) {
  std::ostringstream text;
  text << "name = \"" << config.name << "\"\ncpus = " << config.cpus << "\nmemory = \""
       << config.memory_bytes / kMiB << "M\"\n[boot]\nkernel = \"" << config.boot.kernel
       << "\"\ncmdline = \"" << config.boot.cmdline << "\"\n";
  for (const DiskConfig& disk : config.disks) {
    text << "[[disk]]\npath = \"" << disk.path << "\"\nserial = \"" << disk.serial
         << "\"\nread_only = " << (disk.read_only ? "true" : "false")
         << "\nqueues = " << disk.queues
         << "\ncache = " << (disk.cache == DiskCache::kNone ? "\"none\"" : "\"writeback\"") << "\n";
    if (disk.rates.bytes_per_second) {
      text << "bandwidth = " << *disk.rates.bytes_per_second << "\n";
    }
    if (disk.rates.operations_per_second) {
      text << "iops = " << *disk.rates.operations_per_second << "\n";
    }
  }
  if (config.agent_enabled) {
    text << "[agent]\n";
  }
  return text.str();
}

}  // namespace pacsvisor
