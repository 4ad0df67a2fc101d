#include "vmm/machine/vcpu_thread.h"

#include <signal.h>

#include <cerrno>
#include <mutex>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/thread.h"
#include "vmm/machine/exit_reason.h"

namespace pacsvisor {
namespace {

// Its handler does nothing: KVM_RUN returns EINTR because a signal arrived.

void InstallKickHandler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigemptyset(&action.sa_mask);
    CHECK(::sigaction(kVcpuKickSignal, &action, nullptr) == 0, "sigaction: errno {}", errno);
  });
}

void UnblockKickSignal() {
  sigset_t kick;
  sigemptyset(&kick);
  sigaddset(&kick, kVcpuKickSignal);
  pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
}

}  // namespace

VcpuThread::VcpuThread(std::unique_ptr<KvmVcpu> vcpu, Environment environment)
    : vcpu_(std::move(vcpu)), environment_(std::move(environment)) {
  InstallKickHandler();
}

VcpuThread::~VcpuThread() {
  RequestStop();
  Join();
}

Status VcpuThread::Start() {
  thread_ =
      TRY(StartThread(ThreadKind::kVcpu, fmt::format("vcpu{}", vcpu_->id()), [this] { Body(); }));
  return {};
}

void VcpuThread::Kick() {
  // In this order: a vCPU between its last look and KVM_RUN sees the flag, one in guest code the
  // signal.
  vcpu_->RequestExit();
  if (running_) {
    const int sent = pthread_kill(native_, kVcpuKickSignal);
    CHECK(sent == 0, "pthread_kill: {}", sent);
  }
}

void VcpuThread::RequestPause() {
  const MutexLock lock(mutex_);
  if (request_ == Request::kRun) {
    request_ = Request::kPause;
    Kick();
  }
}

void VcpuThread::RequestStop() {
  const MutexLock lock(mutex_);
  request_ = Request::kStop;
  Kick();
  changed_.notify_all();
}

void VcpuThread::WaitUntilParked() {
  const MutexLock lock(mutex_);
  while (!parked_ && request_ != Request::kStop && thread_.joinable()) {
    changed_.wait(mutex_);
  }
}

void VcpuThread::Resume() {
  const MutexLock lock(mutex_);
  if (request_ == Request::kPause) {
    request_ = Request::kRun;
    parked_ = false;
    changed_.notify_all();
  }
}

void VcpuThread::Join() {
  if (thread_.joinable()) {
    thread_.join();
  }
}

void VcpuThread::Body() {
  UnblockKickSignal();
  {
    const MutexLock lock(mutex_);
    running_ = true;
    native_ = pthread_self();
  }
  bool going = ServeRequest();
  if (going) {
    first_entry_ns_.store(MonotonicNs(), std::memory_order_relaxed);
  }
  while (going) {
    const KvmVcpu::RunResult result = vcpu_->Run();
    if (Stopping()) {
      break;  // of memory that was cut off, the exit says anything
    }
    switch (result) {
      case KvmVcpu::RunResult::kExit:
        going = ServeExit();
        break;
      case KvmVcpu::RunResult::kInterrupted:
        // The last access is complete: KVM_RUN applies it before it looks at immediate_exit.
        going = ServeRequest();
        break;
      case KvmVcpu::RunResult::kFailed:
        Fail(fmt::format("KVM_RUN failed: errno {}", errno));
        going = false;
        break;
    }
  }
  const MutexLock lock(mutex_);
  running_ = false;
  parked_ = true;
  changed_.notify_all();
}

bool VcpuThread::ServeRequest() {
  const MutexLock lock(mutex_);
  while (request_ == Request::kPause) {
    if (!parked_) {
      parked_ = true;
      changed_.notify_all();
    }
    changed_.wait(mutex_);
  }
  parked_ = false;
  vcpu_->ClearExitRequest();
  return request_ == Request::kRun;
}

bool VcpuThread::Stopping() {
  if (!vcpu_->ExitRequested()) {
    return false;
  }
  const MutexLock lock(mutex_);
  return request_ == Request::kStop;
}

bool VcpuThread::ServeExit() {
  const kvm_run& run = vcpu_->run();
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      ServePorts();
      return true;
    case KVM_EXIT_MMIO:
      ServeMmio();
      return true;
    case KVM_EXIT_DIRTY_RING_FULL:
      return ServeFullRing();
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      return true;
    default:
      Fail(DescribeExit(run));
      return false;
  }
}

void VcpuThread::ServePorts() {
  const kvm_run& run = vcpu_->run();
  const std::span<uint8_t> data = vcpu_->io_data();
  const size_t size_bytes = run.io.size;
  for (size_t offset = 0; offset < data.size(); offset += size_bytes) {
    const std::span<uint8_t> one = data.subspan(offset, size_bytes);
    if (run.io.direction == KVM_EXIT_IO_IN) {
      environment_.ports.Read(run.io.port, one);
    } else {
      environment_.ports.Write(run.io.port, one);
    }
  }
}

void VcpuThread::ServeMmio() {
  kvm_run& run = vcpu_->run();
  CHECK(run.mmio.len <= sizeof(run.mmio.data), "KVM's access of {} bytes", uint32_t{run.mmio.len});
  const std::span<uint8_t> data(run.mmio.data, run.mmio.len);
  if (run.mmio.is_write != 0) {
    environment_.mmio.Write(run.mmio.phys_addr, data);
  } else {
    environment_.mmio.Read(run.mmio.phys_addr, data);
  }
}

bool VcpuThread::ServeFullRing() {
  CHECK(environment_.dirty_ring != nullptr, "vCPU {} has a dirty ring of nobody's", vcpu_->id());
  const Status served = environment_.dirty_ring->ServeFull(vcpu_->id());
  if (!served.ok()) {
    Fail(served.error().message());
  }
  return served.ok();
}

void VcpuThread::Fail(std::string reason) {
  environment_.on_fault({vcpu_->id(), std::move(reason)});
}

}  // namespace pacsvisor
