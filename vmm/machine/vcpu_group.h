// All vCPUs of a machine, paused and resumed together.
// Threads: the control thread; RequestStop any.
#pragma once

#include <memory>
#include <vector>

#include "vmm/machine/vcpu_thread.h"

namespace pacsvisor {

class VcpuGroup {
 public:
  void Add(std::unique_ptr<VcpuThread> thread) { threads_.push_back(std::move(thread)); }
  Status Start();
  // All are asked before any is waited for: the pause takes as long as the slowest, not as their
  // sum.
  void Pause();
  void Resume();
  void RequestStop();
  void Join();

  const std::vector<std::unique_ptr<VcpuThread>>& threads() const { return threads_; }

 private:
  std::vector<std::unique_ptr<VcpuThread>> threads_;  // constant once started
};

}  // namespace pacsvisor
