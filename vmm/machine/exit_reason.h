// Exits of KVM that end a guest, in words.
#pragma once

#include <linux/kvm.h>

#include <string>

namespace pacsvisor {

std::string DescribeExit(const kvm_run& run);

}  // namespace pacsvisor
