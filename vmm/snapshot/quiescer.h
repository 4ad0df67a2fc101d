// Whoever brings the guest's own data to rest for the instant of a snapshot.
// Threads: the snapshot's.
#pragma once

#include "vmm/base/result.h"

namespace pacsvisor {

class Quiescer {
 public:
  virtual ~Quiescer() = default;

  // Before the pause, while the machine runs. An error: what is there at the instant is as after a
  // power cut, for the reason that it names.
  virtual Status Freeze() = 0;
  // Directly after the pause, whatever became of Freeze and of the pause. An error: the guest may
  // stand still in what Freeze began.
  virtual Status Thaw() = 0;
};

}  // namespace pacsvisor
