// Threads with names, all signals blocked but those a machine sends to its own vCPU threads.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "vmm/base/result.h"

namespace pacsvisor {

// Starts `body` on a new thread on which every asynchronous signal is blocked.
Result<std::thread> StartThread(const std::string& name, std::function<void()> body);

}  // namespace pacsvisor
