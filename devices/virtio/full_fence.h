// Orders every earlier store before every later load: what publishing an index and then looking at
// the other side's event field needs (virtio 1.2, 2.7.7.2 and 2.7.13.3.1). Acquire and release do
// not.
#pragma once

#include <atomic>

namespace pacsvisor {

inline void FullFence() {
  // A locked read-modify-write is a full barrier on x86-64. The thread sanitizer knows it, but does
  // not know fences.
  std::atomic<unsigned> word = 0;
#if defined(__SANITIZE_THREAD__)
  word.fetch_add(1, std::memory_order_seq_cst);
#else
  (void)word;
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace pacsvisor
