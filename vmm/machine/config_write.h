// A configuration as the text of a VM.toml.
#pragma once

#include <string>

#include "vmm/machine/config.h"

namespace pacsvisor {

// What ParseConfigText makes the same configuration of, wherever the file lies: paths as they are
// in it. Keys with their defaults are left out.
std::string ConfigToToml(const MachineConfig& config);

}  // namespace pacsvisor
