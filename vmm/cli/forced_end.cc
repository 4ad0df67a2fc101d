#include "vmm/cli/forced_end.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "vmm/base/thread.h"
#include "vmm/cli/command.h"
#include "vmm/cli/standard_streams.h"

namespace pacsvisor {

Result<std::unique_ptr<ForcedEnd>> ForcedEnd::Start(std::chrono::nanoseconds patience,
                                                    std::function<void()> last) {
  std::unique_ptr<ForcedEnd> forced_end(new ForcedEnd(patience, std::move(last)));
  ForcedEnd* const self = forced_end.get();
  forced_end->thread_ =
      TRY(StartThread(ThreadKind::kMain, "forced-end", [self] { self->Watch(); }));
  return forced_end;
}

ForcedEnd::~ForcedEnd() {
  {
    const MutexLock lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ForcedEnd::Arm() {
  {
    const MutexLock lock(mutex_);
    armed_ = true;
  }
  changed_.notify_all();
}

void ForcedEnd::EndNow(std::string last_words) {
  {
    const MutexLock lock(mutex_);
    if (!last_words_) {
      last_words_ = std::move(last_words);
    }
  }
  changed_.notify_all();
}

std::optional<std::string> ForcedEnd::WaitForForce() {
  const MutexLock lock(mutex_);
  while (!armed_ && !ended_ && !last_words_) {
    changed_.wait(mutex_);
  }
  const auto deadline = std::chrono::steady_clock::now() + patience_;
  while (!ended_ && !last_words_) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) {
      return "pacsvisor: a file of the host does not answer (a disk on a hung file system?), so "
             "the machine could not be taken down in order: the process ends without it. What "
             "the guest has flushed is on its disks, writes in flight may be or not";
    }
  }
  return last_words_;
}

void ForcedEnd::Watch() {
  const std::optional<std::string> last_words = WaitForForce();
  if (last_words) {
    last_();
    Print(stderr, "{}\n", *last_words);
    _exit(static_cast<int>(ExitStatus::kFailed));
  }
}

}  // namespace pacsvisor
