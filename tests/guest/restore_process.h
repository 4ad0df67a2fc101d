// A saved machine restored in a process of its own, and a dialogue with it over pipes: what a
// restore after the death of the first process is.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "vmm/machine/machine.h"

namespace pacsvisor {

// Writes the paused machine as a full copy (vmm/snapshot/full_copy.h). `disks` are the images of
// the configuration's disks.
Status SaveMachine(Machine& machine, const std::string& path);

// Started as `guest_test --restore COPY MEMORY_MIB CPUS [DISK…]`: restores, runs, takes commands
// from standard input and prints the guest's console. Status 0 when the guest powered off.
int RunRestoredGuest(int argc, char** argv);

// The other end: starts that process.
class RestoredGuest {
 public:
  RestoredGuest(const std::string& copy, const MachineConfig& config,
                const std::vector<std::string>& disks);
  ~RestoredGuest();

  void Send(const std::string& line);
  // The next line of output that holds `text`; empty (and a test failure) when the process ends
  // first.
  std::string Expect(const std::string& text);
  int WaitForExit();  // its status

 private:
  pid_t pid_ = -1;
  int to_guest_ = -1;
  int from_guest_ = -1;
  std::string output_;
  std::string seen_;
};

}  // namespace pacsvisor
