// The thread of one vCPU: runs guest code, serves its port and memory-mapped accesses, parks.
//
// Threads: RequestPause, RequestStop and Resume are called by the control thread (RequestStop by
// any, the vCPU's own included); the rest belongs to the thread itself. Lock order: mutex_ is a
// leaf.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "devices/bus/bus.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/kvm/dirty_ring_source.h"
#include "vmm/kvm/kvm_vcpu.h"

namespace pacsvisor {

// What takes a vCPU's thread out of guest code. No real-time signal: those wait in a queue whose
// length all processes of a user share (RLIMIT_SIGPENDING), and are lost when it is full.
inline constexpr int kVcpuKickSignal = SIGURG;

// Why a vCPU cannot go on, in words; the machine adds the registers.
struct VcpuFault {
  VcpuId vcpu;
  std::string reason;
};

class VcpuThread {
 public:
  struct Environment {
    Bus& ports;
    Bus& mmio;
    // On the vCPU's thread, once; the vCPU then stands still until it is stopped.
    std::function<void(const VcpuFault&)> on_fault;
    // Where the VM has dirty rings: takes what a full one holds.
    DirtyRingSource* dirty_ring = nullptr;
  };

  VcpuThread(std::unique_ptr<KvmVcpu> vcpu, Environment environment);
  ~VcpuThread();  // stops and joins

  // Starts the thread parked: nothing runs before the first Resume.
  Status Start();

  // Returns at once; WaitUntilParked returns when the vCPU has left guest code, every access it was
  // in the middle of is complete, and its state may be read.
  void RequestPause();
  void WaitUntilParked();
  void Resume();
  void RequestStop();
  void Join();

  // When this vCPU first entered guest code (CLOCK_MONOTONIC), 0 before that. Any thread.
  uint64_t first_entry_ns() const { return first_entry_ns_.load(std::memory_order_relaxed); }

  // While parked (or before Start) the control thread may use the vCPU.
  KvmVcpu& vcpu() { return *vcpu_; }

 private:
  enum class Request { kRun, kPause, kStop };

  void Body();
  bool Stopping();
  bool ServeRequest();  // false: stop
  bool ServeExit();     // false: cannot go on
  void ServePorts();
  void ServeMmio();
  bool ServeFullRing();  // false: cannot go on
  void Fail(std::string reason);
  void Kick() REQUIRES(mutex_);

  // Constant after construction.
  const std::unique_ptr<KvmVcpu> vcpu_;
  const Environment environment_;
  // Any thread.
  std::atomic<uint64_t> first_entry_ns_ = 0;
  // Guarded.
  Mutex mutex_;
  std::condition_variable_any changed_;
  Request request_ GUARDED_BY(mutex_) = Request::kPause;
  bool parked_ GUARDED_BY(mutex_) = false;
  bool running_ GUARDED_BY(mutex_) = false;  // the thread exists and takes signals
  pthread_t native_ GUARDED_BY(mutex_) = {};
  std::thread thread_;
};

}  // namespace pacsvisor
