// Who watches a snapshot being taken, and may call it off.
// Threads: called on the snapshot's; must not block.
#pragma once

#include <cstdint>
#include <string_view>

#include "vmm/base/result.h"

namespace pacsvisor {

enum class CapturePhase {
  kCopying,  // ahead of the pause, the machine runs
  kPausing,
  kWriting,     // behind the pause, the machine runs
  kCommitting,  // until it is durable
};

class CaptureObserver {
 public:
  virtual ~CaptureObserver() = default;
  // `bytes_total` 0: not known yet.
  virtual void OnProgress(CapturePhase phase, uint64_t bytes_done, uint64_t bytes_total) = 0;
  virtual bool cancelled() const = 0;

  Status CheckCancelled() const {
    return cancelled() ? Error::Make(ErrorCode::kCancelled, "the snapshot was called off")
                       : Status();
  }
};

}  // namespace pacsvisor
