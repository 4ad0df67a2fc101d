// clang's thread safety analysis (-Wthread-safety): names for its attributes, and a mutex that
// carries them. g++ sees a plain std::mutex.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define PV_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define PV_THREAD_ATTRIBUTE(x)
#endif

#define GUARDED_BY(x) PV_THREAD_ATTRIBUTE(guarded_by(x))
#define REQUIRES(...) PV_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) PV_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS PV_THREAD_ATTRIBUTE(no_thread_safety_analysis)

namespace pacsvisor {

class PV_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() PV_THREAD_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void unlock() PV_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  bool try_lock() PV_THREAD_ATTRIBUTE(try_acquire_capability(true)) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

// Holds a Mutex for a scope; Wait needs a std::condition_variable_any.
class PV_THREAD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) PV_THREAD_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() PV_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace pacsvisor
