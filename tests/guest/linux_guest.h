// Linux guests at native speed: the native kernel, the tools image, and a job of the test's own.
#pragma once

#include <string>
#include <vector>

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
  // A disk labelled "job" whose executable /run is `script` (guests/pacs/test/etc/init.d/rcS), with
  // `programs` beside it.
  std::string MakeJob(const std::string& script,
                      const std::vector<std::string>& programs = {}) const;
  // An empty disk of `size_bytes`.
  std::string MakeDisk(const std::string& name, uint64_t size_bytes) const;
  // An empty ext4 file system labelled `label`.
  std::string MakeFileSystem(const std::string& label, uint64_t size_bytes) const;

 private:
  std::string directory_;
};

// Two disks: root (vda) and job (vdb); more disks and nets are the caller's to add.
// `programs` go onto the job's disk.
MachineConfig LinuxConfig(const GuestFiles& files, const std::string& job, uint32_t cpus,
                          uint64_t memory_bytes = 512 * kMiB,
                          const std::vector<std::string>& programs = {});

// The same machine as VM.toml, for the program.
std::string ConfigText(const MachineConfig& config);

// Runs a command of the host; a test failure when it ends with another status than 0.
void RunOnHost(const std::string& command);

struct HostResult {
  int status = -1;
  std::string output;  // both streams
};
HostResult AskHost(const std::string& command);

// The file system on an image that no machine uses is sound: `e2fsck -p` has nothing to do but what
// mounting does too (replay the journal, finish what unlink and truncate had begun), and after it
// `e2fsck -fn` finds nothing at all.
void ExpectSoundFileSystem(const std::string& image);

}  // namespace pacsvisor
