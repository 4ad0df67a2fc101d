// A process that keeps its rights and sees no guest, over one that runs the guest and gives its
// rights up. The first only waits: it hands signals on, and takes away at the end what the other
// may not.
//
// Threads: one, before any is started.
#pragma once

#include <functional>
#include <vector>

#include "vmm/base/result.h"

namespace pacsvisor {

struct ChildEnd {
  int exit_status = 0;  // where `signal` is 0
  int signal = 0;       // what killed it
};

struct SupervisorOptions {
  // Handed on to the child. They are blocked in this process, and in the child from its start.
  std::vector<int> signals;
  bool pid_namespace = false;  // the child is the first process of one (pid_namespaces(7))
  // An eventfd that the child signals, once at most: `on_news` is then called in this process.
  int news_fd = -1;
  std::function<void()> on_news;
};

// Runs `body` in a child process, whose exit status is what it returns, and waits for its end. The
// child inherits what is open. It does not outlive this process once it has called
// DieWithSupervisor.
Result<ChildEnd> Supervise(const SupervisorOptions& options, const std::function<int()>& body);

// In the child, after its last change of user (which would undo it, prctl(2)): it is killed with
// its supervisor. Nothing in any other process.
Status DieWithSupervisor();

}  // namespace pacsvisor
