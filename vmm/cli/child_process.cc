#include "vmm/cli/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

constexpr size_t kErrorLimitBytes = 4096;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return Error::FromErrno(errno, "cannot make a pipe");
  }
  return Pipe{.read = UniqueFd(ends[0]), .write = UniqueFd(ends[1])};
}

// In the child. Returns only when the program cannot be run; errno says why.
void Become(const std::vector<std::string>& argv, const Interrupts& interrupts, pid_t parent,
            int out, int errors) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const UniqueFd none(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (getppid() != parent || dup2(none.get(), STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
      dup2(errors, STDERR_FILENO) < 0) {
    return;
  }
  std::signal(SIGPIPE, SIG_DFL);  // what this program ignores, the other need not
  setpgid(0, 0);                  // Ctrl-C is for this program, which ends the other
  interrupts.Restore();
  setenv("LC_ALL", "C", 1);
  std::vector<char*> words;
  for (const std::string& word : argv) {
    words.push_back(const_cast<char*>(word.c_str()));  // execvp does not write to them
  }
  words.push_back(nullptr);
  execvp(words[0], words.data());
}

// A child that is killed and waited for, unless it was waited for already.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  ~Child() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int Wait() {
    const pid_t pid = std::exchange(pid_, -1);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

// The errno that exec failed with; 0 when it did not.
int ExecError(int fd) {
  int reason = 0;
  ssize_t count = 0;
  do {
    count = read(fd, &reason, sizeof(reason));
  } while (count < 0 && errno == EINTR);
  return count == sizeof(reason) ? reason : 0;
}

// Reads what is there; false at the end.
bool ReadSome(int fd, const std::function<void(std::string_view)>& take) {
  std::array<char, 4096> buffer;
  const ssize_t count = read(fd, buffer.data(), buffer.size());
  if (count > 0) {
    take(std::string_view(buffer.data(), static_cast<size_t>(count)));
  }
  return count > 0 || (count < 0 && errno == EINTR);
}

}  // namespace

Result<ChildOutcome> RunChild(const std::vector<std::string>& argv, Interrupts& interrupts,
                              const std::function<void(std::string_view)>& on_output) {
  Pipe out = TRY(MakePipe());
  Pipe errors = TRY(MakePipe());
  Pipe failure = TRY(MakePipe());  // closed by exec
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    return Error::FromErrno(errno, "cannot start {}", argv.at(0));
  }
  if (pid == 0) {
    Become(argv, interrupts, parent, out.write.get(), errors.write.get());
    const int reason = errno;
    _exit(write(failure.write.get(), &reason, sizeof(reason)) == sizeof(reason) ? 127 : 126);
  }
  Child child(pid);
  out.write.Reset();
  errors.write.Reset();
  failure.write.Reset();
  if (const int reason = ExecError(failure.read.get()); reason != 0) {
    return Error::FromErrno(reason, "cannot run {}", argv.at(0));
  }
  ChildOutcome outcome;
  const auto keep = [&](std::string_view text) {
    outcome.errors += text;
    if (outcome.errors.size() > kErrorLimitBytes) {
      outcome.errors.erase(0, outcome.errors.size() - kErrorLimitBytes);
    }
  };
  std::array<pollfd, 3> entries = {{{.fd = out.read.get(), .events = POLLIN, .revents = 0},
                                    {.fd = errors.read.get(), .events = POLLIN, .revents = 0},
                                    {.fd = interrupts.fd(), .events = POLLIN, .revents = 0}}};
  while (entries[0].fd >= 0 || entries[1].fd >= 0) {
    if (poll(entries.data(), entries.size(), -1) < 0) {
      if (errno == EINTR) {
        continue;
      }
      return Error::FromErrno(errno, "cannot wait for {}", argv.at(0));
    }
    if (entries[2].revents != 0 && interrupts.Take()) {
      return Error::Make(ErrorCode::kCancelled, "{} was interrupted", argv.at(0));
    }
    if (entries[0].revents != 0 && !ReadSome(entries[0].fd, on_output)) {
      entries[0].fd = -1;  // poll(2) leaves it alone
    }
    if (entries[1].revents != 0 && !ReadSome(entries[1].fd, keep)) {
      entries[1].fd = -1;
    }
  }
  outcome.status = child.Wait();
  while (outcome.errors.ends_with('\n')) {
    outcome.errors.pop_back();
  }
  return outcome;
}

}  // namespace pacsvisor
