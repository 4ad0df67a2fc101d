// A saved machine restored in a process of its own, and a dialogue with it over pipes: what a
// restore after the death of the first process is.
#pragma once

#include <string>
#include <vector>

#include "tests/guest/guest_process.h"
#include "vmm/machine/machine.h"

namespace pacsvisor {

// Writes the paused machine as a full copy (vmm/snapshot/full_copy.h). `disks` are the images of
// the configuration's disks.
Status SaveMachine(Machine& machine, const std::string& path);

// Started as `guest_test --restore COPY MEMORY_MIB CPUS DISK…`: restores, runs, takes commands
// from standard input and prints the guest's console. Status 0 when the guest powered off.
int RunRestoredGuest(int argc, char** argv);

// The other end: that process.
class RestoredGuest : public GuestProcess {
 public:
  // `disks`: paths of new files, one for each disk of `config`, that take the disks of the copy.
  RestoredGuest(const std::string& copy, const MachineConfig& config,
                const std::vector<std::string>& disks);
};

}  // namespace pacsvisor
