// Where finished requests wait while the machine is paused, and the counter that tells requests of
// before a pause or reset from those of after it.
// Threads: one at a time, under the lock of whoever holds it.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/disk/block_request.h"

namespace pacsvisor {

class CompletionGate {
 public:
  // Closing twice is closing once, but for the generation.
  void Close() {
    closed_ = true;
    ++generation_;
  }
  void Open() { closed_ = false; }
  uint64_t RaiseGeneration() { return ++generation_; }

  void Arrive(BlockRequest& request) { finished_.push_back(&request); }
  void Take(std::vector<BlockRequest*>& done) {
    if (!closed_) {
      done.insert(done.end(), finished_.begin(), finished_.end());
      finished_.clear();
    }
  }

  bool closed() const { return closed_; }
  uint64_t generation() const { return generation_; }
  size_t waiting() const { return finished_.size(); }

 private:
  bool closed_ = false;
  uint64_t generation_ = 1;
  std::vector<BlockRequest*> finished_;
};

}  // namespace pacsvisor
