// Threads with names, all signals blocked but those a machine sends to its own vCPU threads.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "vmm/base/result.h"
#include "vmm/base/thread_kind.h"

namespace pacsvisor {

// Called on each new thread before its body, once this is set: what confines a thread of that kind.
// By the main thread, before it starts the first.
void SetThreadEntry(std::function<void(ThreadKind)> entry);

// Starts `body` on a new thread on which every asynchronous signal is blocked.
Result<std::thread> StartThread(ThreadKind kind, std::string name, std::function<void()> body);

}  // namespace pacsvisor
