// What may hang has a limit: when it passes, every thread of the process is described and the
// process aborts. Threads: Begin and End by one thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace pacsvisor {

class HangWatch {
 public:
  explicit HangWatch(std::chrono::seconds limit);
  ~HangWatch();

  // `what` is under way until End.
  void Begin(std::string what);
  void End();

  // `HangWatch::Scope pausing(watch, "pausing");`
  class Scope {
   public:
    Scope(HangWatch& watch, std::string what) : watch_(watch) { watch.Begin(std::move(what)); }
    ~Scope() { watch_.End(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    HangWatch& watch_;
  };

 private:
  void Watch();

  const std::chrono::seconds limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string what_;
  std::optional<std::chrono::steady_clock::time_point> deadline_;
  bool ending_ = false;
  std::thread watcher_;
};

// Of each thread of this process: name, state, pending signals, where in the kernel it waits, and
// its line of /proc (proc(5): the times it has used).
std::string DescribeThreads();

}  // namespace pacsvisor
