#include "vmm/base/trial_process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>

#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

constexpr int kReportFd = STDERR_FILENO + 1;
constexpr uint8_t kWentWell = 0xff;  // no ErrorCode

// Nothing but standard error and the report's pipe.
void KeepOnly(int report) {
  CHECK(::dup2(report, kReportFd) == kReportFd);
  CHECK(::close_range(kReportFd + 1, ~0U, 0) == 0);
  CHECK(::close_range(STDIN_FILENO, STDOUT_FILENO, 0) == 0);
}

// A byte that says how it went, then the message.
void Tell(const Status& status) {
  std::string text(
      1, static_cast<char>(status.ok() ? kWentWell : static_cast<uint8_t>(status.error().code())));
  if (!status.ok()) {
    text += status.error().message();
  }
  while (!text.empty()) {
    const ssize_t written = ::write(kReportFd, text.data(), text.size());
    if (written < 0 && errno != EINTR) {
      return;  // nobody listens any more
    }
    text.erase(0, static_cast<size_t>(std::max<ssize_t>(written, 0)));
  }
  ::close(kReportFd);
}

Result<std::string> ReadToEnd(int fd) {
  std::string text;
  std::array<char, 4096> buffer;
  while (true) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count > 0) {
      text.append(buffer.data(), static_cast<size_t>(count));
    } else if (count == 0) {
      return text;
    } else if (errno != EINTR) {
      return Error::FromErrno(errno, "cannot read from a pipe");
    }
  }
}

}  // namespace

Status RunTrialProcess(std::string_view what,
                       const std::function<void(const TellHowItWent& tell)>& trial) {
  std::array<int, 2> ends = {};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return Error::FromErrno(errno, "cannot make a pipe");
  }
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  std::fflush(nullptr);  // else both would write what waits there
  // Of two, so that the one nobody waits for is the host's to take away.
  const pid_t between = ::fork();
  if (between < 0) {
    return Error::FromErrno(errno, "cannot make a process for {}", what);
  }
  if (between == 0) {
    const pid_t last = ::fork();
    if (last != 0) {
      ::_exit(last < 0 ? errno : 0);
    }
    KeepOnly(write_end.get());
    trial(Tell);
    ::_exit(0);
  }
  write_end.Reset();
  int status = 0;
  while (::waitpid(between, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
    return Error::FromErrno(WEXITSTATUS(status), "cannot make a process for {}", what);
  }
  const std::string told = TRY(ReadToEnd(read_end.get()));
  if (told.empty()) {
    return Error::Make(ErrorCode::kUnsupported, "{} ended without a word", what);
  }
  const auto code = static_cast<uint8_t>(told[0]);
  return code == kWentWell
             ? Status()
             : Status(Error::Make(static_cast<ErrorCode>(code), "{}", told.substr(1)));
}

}  // namespace pacsvisor
