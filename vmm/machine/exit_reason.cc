#include "vmm/machine/exit_reason.h"

#include <fmt/format.h>

#include <algorithm>

namespace pacsvisor {
namespace {

std::string DescribeInternalError(const kvm_run& run) {
  std::string text;
  switch (run.internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      text = "KVM could not emulate an instruction";
      break;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      text = "an exception came while another was delivered, and KVM could not combine them";
      break;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      text = "an event could not be delivered to the guest";
      break;
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      text = "the processor left guest code for a reason that KVM does not know";
      break;
    default:
      text = fmt::format("KVM's internal error {}", uint32_t{run.internal.suberror});
      break;
  }
  const uint32_t count = std::min<uint32_t>(run.internal.ndata, 16);
  for (uint32_t i = 0; i < count; ++i) {
    text += fmt::format("{}{:#x}", i == 0 ? "; data " : " ", uint64_t{run.internal.data[i]});
  }
  return text;
}

}  // namespace

std::string DescribeExit(const kvm_run& run) {
  switch (run.exit_reason) {
    case KVM_EXIT_SHUTDOWN:
      return "triple fault: an exception could not be delivered, nor the double fault that follows";
    case KVM_EXIT_FAIL_ENTRY:
      return fmt::format("the processor refused to enter guest code (hardware reason {:#x})",
                         uint64_t{run.fail_entry.hardware_entry_failure_reason});
    case KVM_EXIT_INTERNAL_ERROR:
      return DescribeInternalError(run);
    case KVM_EXIT_HLT:
      return "the processor halted with no interrupt controller to wake it";
    case KVM_EXIT_SYSTEM_EVENT:
      return fmt::format("system event {}", uint32_t{run.system_event.type});
    case KVM_EXIT_UNKNOWN:
      return fmt::format("unknown hardware exit {:#x}", uint64_t{run.hw.hardware_exit_reason});
    default:
      return fmt::format("exit reason {} of KVM, which pacsvisor does not know",
                         uint32_t{run.exit_reason});
  }
}

}  // namespace pacsvisor
