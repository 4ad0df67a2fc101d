// The well-behaved drivers: after whatever was done to the machine, every device must serve them.
#pragma once

#include <cstdint>
#include <string_view>

#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {

// Empty: it served. Otherwise what did not happen.
std::string_view ServeBlock(Battle& battle);
std::string_view ServeNet(Battle& battle);
std::string_view ServeRng(Battle& battle);
// Says "hostile serve NUMBER" on the agent's port, if somebody listens.
std::string_view ServeConsole(Battle& battle, uint64_t number);

}  // namespace pacsvisor::hostile
