// Faults on purpose, for tests of exception and hypervisor reports.
#pragma once

#include <string_view>

namespace pacsvisor::dirtier {

// ud (invalid opcode), de (divide error), gp (a privileged instruction), pf (a page that is not
// mapped), triple. Comes back only from an unknown kind.
void RaiseFault(std::string_view kind);

}  // namespace pacsvisor::dirtier
