#include "vmm/machine/vcpu_group.h"

namespace pacsvisor {

Status VcpuGroup::Start() {
  for (const auto& thread : threads_) {
    TRY(thread->Start());
  }
  return {};
}

void VcpuGroup::Pause() {
  for (const auto& thread : threads_) {
    thread->RequestPause();
  }
  for (const auto& thread : threads_) {
    thread->WaitUntilParked();
  }
}

void VcpuGroup::Resume() {
  for (const auto& thread : threads_) {
    thread->Resume();
  }
}

void VcpuGroup::RequestStop() {
  for (const auto& thread : threads_) {
    thread->RequestStop();
  }
}

void VcpuGroup::Join() {
  for (const auto& thread : threads_) {
    thread->Join();
  }
}

}  // namespace pacsvisor
