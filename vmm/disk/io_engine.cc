#include "vmm/disk/io_engine.h"

#include <atomic>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/disk/thread_pool_engine.h"
#include "vmm/disk/uring_engine.h"

namespace pacsvisor {

Result<std::unique_ptr<IoEngine>> CreateIoEngine(IoEngineKind kind) {
  if (kind != IoEngineKind::kThreads) {
    Result<std::unique_ptr<IoEngine>> engine = UringEngine::Create();
    if (engine.ok() || kind == IoEngineKind::kUring) {
      return engine;
    }
    static std::atomic<bool> said = false;
    if (!said.exchange(true)) {
      Log(LogLevel::kWarning, "{}; disks use threads instead, which is slower",
          engine.error().message());
    }
  }
  return ThreadPoolEngine::Create(ThreadPoolEngine::kDefaultThreads);
}

}  // namespace pacsvisor
