#include "tests/guest/guest_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kDeadlineNs = 120'000'000'000;

// io_uring_setup fails with EPERM in the calling process and what it becomes.
bool RefuseUring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{.len = std::size(program), .filter = program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

[[noreturn]] void Become(const GuestProcess::Options& options, char** arguments, int input,
                         int output) {
  for (const auto& [name, value] : options.environment) {
    ::setenv(name.c_str(), value.c_str(), 1);
  }
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  if (!options.error_log.empty()) {
    ::dup2(::open(options.error_log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
  }
  // The test's death is the guest's.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!options.refuse_uring || RefuseUring()) {
    ::execv(arguments[0], arguments);
  }
  ::_exit(127);
}

}  // namespace

GuestProcess::GuestProcess(Options options) {
  int input[2];
  int output[2];
  if (::pipe2(input, O_CLOEXEC) != 0 || ::pipe2(output, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe";
    return;
  }
  std::vector<char*> arguments;
  for (std::string& word : options.arguments) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    Become(options, arguments.data(), input[0], output[1]);
  }
  ::close(input[0]);
  ::close(output[1]);
  to_guest_.Reset(input[1]);
  from_guest_.Reset(output[0]);
}

GuestProcess::~GuestProcess() { Kill(); }

void GuestProcess::Send(const std::string& line) {
  const std::string text = line + "\n";
  EXPECT_EQ(::write(to_guest_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

bool GuestProcess::TakeLine(std::string& line) {
  const size_t end = output_.find('\n');
  if (end == std::string::npos) {
    return false;
  }
  line = output_.substr(0, end);
  output_.erase(0, end + 1);
  while (!line.empty() && line.back() == '\r') {
    line.pop_back();
  }
  seen_ += line + "\n";
  return true;
}

bool GuestProcess::ReadSome(int timeout_ms) {
  pollfd wait{.fd = from_guest_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&wait, 1, timeout_ms) != 1) {
    return true;
  }
  char buffer[4096];
  const ssize_t got = ::read(from_guest_.get(), buffer, sizeof(buffer));
  if (got <= 0) {
    return false;
  }
  if (std::getenv("PACSVISOR_SHOW_CONSOLE") != nullptr) {
    std::fwrite(buffer, 1, static_cast<size_t>(got), stderr);
  }
  output_.append(buffer, static_cast<size_t>(got));
  return true;
}

std::string GuestProcess::Expect(const std::string& text) {
  uint64_t deadline_ns = MonotonicNs() + kDeadlineNs;
  bool open = true;
  while (open && MonotonicNs() < deadline_ns) {
    for (std::string line; TakeLine(line);) {
      deadline_ns = MonotonicNs() + kDeadlineNs;  // who speaks is alive
      if (line.find(text) != std::string::npos) {
        return line;
      }
    }
    open = ReadSome(1000);
  }
  ADD_FAILURE() << "'" << text << "' did not come"
                << (open ? " within the deadline" : ": the process ended") << ". Its output:\n"
                << seen_;
  return {};
}

std::vector<std::string> GuestProcess::TakeRest() {
  while (ReadSome(-1)) {
  }
  std::vector<std::string> lines;
  for (std::string line; TakeLine(line);) {
    lines.push_back(line);
  }
  return lines;
}

void GuestProcess::Kill() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
}

int GuestProcess::WaitForExit() {
  // Its standard output ends with it, or before.
  const uint64_t deadline_ns = MonotonicNs() + kDeadlineNs;
  while (ReadSome(1000)) {
    if (MonotonicNs() >= deadline_ns) {
      ADD_FAILURE() << "the process did not end. Its output:\n" << seen_ << output_;
      Kill();
      return 128 + SIGKILL;
    }
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace pacsvisor
