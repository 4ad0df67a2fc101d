// StoreFiles that takes no more than so many bytes a second, over all its files: whoever appends
// waits. What a tenth of a second brings may come at once. Threads: any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "vmm/store/store_files.h"

namespace pacsvisor {

// What a waiting writer goes by; tests have a clock of their own.
struct WritePace {
  std::function<uint64_t()> now_ns;
  std::function<void(uint64_t ns)> sleep;
};

// The host's monotonic clock. `bytes_per_second`: 1 to TokenBucket::kMaxTokens.
std::shared_ptr<StoreFiles> LimitWrites(std::shared_ptr<StoreFiles> files,
                                        uint64_t bytes_per_second);
std::shared_ptr<StoreFiles> LimitWrites(std::shared_ptr<StoreFiles> files,
                                        uint64_t bytes_per_second, WritePace pace);

}  // namespace pacsvisor
