#include "vmm/cli/console_writer.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <string>
#include <utility>

#include "vmm/base/thread.h"
#include "vmm/base/thread_annotations.h"

namespace pacsvisor {
namespace {

// False when nobody will ever read it again.
bool WriteAll(int fd, const std::string& bytes) {
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count = write(fd, bytes.data() + written, bytes.size() - written);
    if (count >= 0) {
      written += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {  // whoever shares it with us has made it non-blocking
      pollfd entry = {.fd = fd, .events = POLLOUT, .revents = 0};
      poll(&entry, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

struct ConsoleWriter::State {
  int fd = -1;
  UniqueFd owned;
  Mutex mutex;
  std::condition_variable_any changed;
  std::string waiting GUARDED_BY(mutex);
  uint64_t lost_bytes GUARDED_BY(mutex) = 0;
  bool closing GUARDED_BY(mutex) = false;
  bool done GUARDED_BY(mutex) = false;
};

Result<std::unique_ptr<ConsoleWriter>> ConsoleWriter::Start(int fd, UniqueFd owned) {
  auto state = std::make_shared<State>();
  state->fd = fd;
  state->owned = std::move(owned);
  TRY(StartThread(ThreadKind::kDevice, "console-out", [state] { Loop(*state); })).detach();
  return std::unique_ptr<ConsoleWriter>(new ConsoleWriter(std::move(state)));
}

ConsoleWriter::~ConsoleWriter() {
  MutexLock lock(state_->mutex);
  state_->closing = true;
  state_->changed.notify_all();
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<int>(kFlushMs));
  while (!state_->done &&
         state_->changed.wait_until(state_->mutex, deadline) != std::cv_status::timeout) {
  }
}

void ConsoleWriter::Write(std::span<const uint8_t> bytes) {
  MutexLock lock(state_->mutex);
  if (state_->done) {
    return;
  }
  const size_t room = kBufferBytes - state_->waiting.size();
  const size_t taken = state_->lost_bytes == 0 ? std::min(room, bytes.size()) : 0;
  state_->waiting.append(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(taken));
  state_->lost_bytes += bytes.size() - taken;
  state_->changed.notify_all();
}

void ConsoleWriter::Loop(State& state) {
  while (true) {
    std::string bytes;
    {
      MutexLock lock(state.mutex);
      while (state.waiting.empty() && !state.closing) {
        state.changed.wait(state.mutex);
      }
      bytes.swap(state.waiting);
      if (const uint64_t lost = std::exchange(state.lost_bytes, 0); lost != 0) {
        bytes += fmt::format("\r\n[pacsvisor: {} bytes of console output were lost]\r\n", lost);
      }
    }
    if (bytes.empty() || !WriteAll(state.fd, bytes)) {
      MutexLock lock(state.mutex);
      state.done = true;
      state.waiting.clear();
      state.changed.notify_all();
      return;
    }
  }
}

}  // namespace pacsvisor
