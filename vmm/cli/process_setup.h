// What a process that is a hospital's server asks of its host before it begins. Threads: the main
// one, before any other is started.
#pragma once

namespace pacsvisor {

// - No signal ends it that nobody meant for it: those whose default is death (SIGUSR1, SIGALRM,
//   real-time ones, …) are ignored. What asks for the end (SIGTERM, SIGINT, SIGHUP, SIGQUIT) is the
//   power button, a fault of the process itself (SIGSEGV, …) ends it, and SIGKILL, SIGSTOP,
//   SIGTSTP and SIGCONT do as ever: a machine that was stopped goes on.
// - It may open as many descriptors as the host's hard limit lets it: a user-mode network needs one
//   for each of the guest's connections.
void SetUpMachineProcess();

}  // namespace pacsvisor
