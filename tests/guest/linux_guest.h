// Linux guests at native speed: the native kernel, the tools image, and a job of the test's own.
#pragma once

#include <string>

#include "tests/guest/guest_machine.h"

namespace pacsvisor {

// Files of one test, removed with it.
class GuestFiles {
 public:
  GuestFiles();
  ~GuestFiles();

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  // A private copy of the tools image's root file system.
  std::string CopyRoot() const;
  // A disk labelled "job" whose executable /run is `script` (guests/pacs/test/etc/init.d/rcS).
  std::string MakeJob(const std::string& script) const;
  // An empty disk of `size_bytes`.
  std::string MakeDisk(const std::string& name, uint64_t size_bytes) const;

 private:
  std::string directory_;
};

// Two disks: root (vda) and job (vdb); more disks and nets are the caller's to add.
MachineConfig LinuxConfig(const GuestFiles& files, const std::string& job, uint32_t cpus,
                          uint64_t memory_bytes = 512 * kMiB);

// Runs a command of the host; a test failure when it ends with another status than 0.
void RunOnHost(const std::string& command);

}  // namespace pacsvisor
