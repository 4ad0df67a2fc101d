#include "tests/guest/linux_guest.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

const std::string kGuestFiles = PACSVISOR_GUEST_FILES;

}  // namespace

void RunOnHost(const std::string& command) {
  EXPECT_EQ(std::system((command + " >/dev/null 2>&1").c_str()), 0) << command;
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

std::string GuestFiles::MakeJob(const std::string& script) const {
  fs::create_directory(Path("job"));
  std::ofstream(Path("job/run")) << "#!/bin/bash\n" << script << "\n";
  fs::permissions(Path("job/run"), fs::perms::owner_all);
  RunOnHost("mkfs.ext4 -q -L job -d " + Path("job") + " " + Path("job.raw") + " 8M");
  return Path("job.raw");
}

std::string GuestFiles::MakeDisk(const std::string& name, uint64_t size_bytes) const {
  std::ofstream(Path(name)).close();
  fs::resize_file(Path(name), size_bytes);
  return Path(name);
}

MachineConfig LinuxConfig(const GuestFiles& files, const std::string& job, uint32_t cpus,
                          uint64_t memory_bytes) {
  MachineConfig config;
  config.name = "linux";
  config.cpus = cpus;
  config.memory_bytes = memory_bytes;
  config.boot.kernel = kGuestFiles + "/vmlinux";
  config.boot.cmdline = "console=ttyS0 root=/dev/vda rw quiet panic=-1";
  config.disks.push_back({.path = files.CopyRoot(), .serial = "root"});
  config.disks.push_back({.path = files.MakeJob(job), .serial = "job", .read_only = true});
  return config;
}

}  // namespace pacsvisor
