#include "tests/guest/hang_watch.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <utility>

namespace pacsvisor {
namespace {

// Empty where the kernel does not say.
std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream stream(path);
  std::string line;
  std::getline(stream, line);
  return line;
}

// The lines of `path` that begin with one of `keys`.
std::string Lines(const std::filesystem::path& path, std::initializer_list<const char*> keys) {
  std::string found;
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) {
    for (const char* key : keys) {
      found += line.starts_with(key) ? " " + line : "";
    }
  }
  return found;
}

}  // namespace

std::string DescribeThreads() {
  std::string text;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", error)) {
    const std::filesystem::path& thread = entry.path();
    text +=
        "  " + thread.filename().string() + " " + FirstLine(thread / "comm") + ":" +
        // A signal that is pending has not been let in by the kernel (the kick is SIGURG, bit 23).
        Lines(thread / "status", {"State:", "SigPnd:", "SigBlk:"}) + ", in " +
        FirstLine(thread / "wchan") + ", system call " + FirstLine(thread / "syscall") + "\n";
    text += Lines(thread / "stack", {""}) + "\n    " + FirstLine(thread / "stat") + "\n";
  }
  return text;
}

HangWatch::HangWatch(std::chrono::seconds limit) : limit_(limit), watcher_([this] { Watch(); }) {}

HangWatch::~HangWatch() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  watcher_.join();
}

void HangWatch::Begin(std::string what) {
  {
    const std::lock_guard lock(mutex_);
    what_ = std::move(what);
    deadline_ = std::chrono::steady_clock::now() + limit_;
  }
  changed_.notify_all();
}

void HangWatch::End() {
  const std::lock_guard lock(mutex_);
  deadline_.reset();  // the watcher looks when it wakes: thousands of rounds wake it once
}

void HangWatch::Watch() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    if (!deadline_.has_value()) {
      changed_.wait(lock);
    } else if (std::chrono::steady_clock::now() < *deadline_) {
      const auto deadline = *deadline_;
      changed_.wait_until(lock, deadline);
    } else {
      std::fprintf(stderr, "%s hangs: not done after %lld s. The threads:\n%s", what_.c_str(),
                   static_cast<long long>(limit_.count()), DescribeThreads().c_str());
      std::this_thread::sleep_for(std::chrono::seconds(1));  // what runs shows by its times
      std::fprintf(stderr, "A second later:\n%s", DescribeThreads().c_str());
      std::abort();
    }
  }
}

}  // namespace pacsvisor
