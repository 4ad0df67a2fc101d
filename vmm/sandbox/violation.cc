#include "vmm/sandbox/violation.h"

#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace pacsvisor {
namespace {

constexpr int kHighestCall = 512;

// Made before the handler can run, which may call nothing that allocates.
std::vector<std::string>& CallNames() {
  static std::vector<std::string> names;
  return names;
}

void (*g_last)() = nullptr;

// Text of a signal handler: what does not fit is cut off.
class Line {
 public:
  void Add(const char* text) {
    for (; *text != '\0' && size_ < text_.size(); ++text) {
      text_[size_++] = *text;
    }
  }
  void Add(unsigned value) {
    std::array<char, 12> digits = {};
    size_t first = digits.size() - 1;
    do {
      digits[--first] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    Add(&digits[first]);
  }
  void Write() const {
    size_t done = 0;
    while (done < size_) {
      const ssize_t count = write(STDERR_FILENO, text_.data() + done, size_ - done);
      if (count <= 0) {
        return;
      }
      done += static_cast<size_t>(count);
    }
  }

 private:
  std::array<char, 256> text_ = {};
  size_t size_ = 0;
};

[[noreturn]] void EndProcess(int /*signal*/, siginfo_t* info, void* /*context*/) {
  std::array<char, 16> thread = {};  // PR_GET_NAME
  prctl(PR_GET_NAME, thread.data());
  const auto number = static_cast<size_t>(info->si_syscall);
  Line line;
  line.Add("pacsvisor: thread ");
  line.Add(thread.data());
  line.Add(" made a system call that it is not allowed: ");
  if (number < CallNames().size() && !CallNames()[number].empty()) {
    line.Add(CallNames()[number].c_str());
  } else {
    line.Add("number ");
    line.Add(static_cast<unsigned>(number));
  }
  line.Add(
      "; the machine is ended. Either the guest has broken into this process, or this is a "
      "fault of pacsvisor: report it\n");
  if (g_last != nullptr) {
    g_last();
  }
  line.Write();
  _exit(kViolationStatus);
}

}  // namespace

Status ReportViolations(void (*last)()) {
  g_last = last;
  CallNames().resize(kHighestCall);
  for (int number = 0; number < kHighestCall; ++number) {
    char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
    if (name != nullptr) {
      CallNames()[static_cast<size_t>(number)] = name;
      std::free(name);
    }
  }
  struct sigaction action = {};
  action.sa_sigaction = EndProcess;
  action.sa_flags = SA_SIGINFO;
  sigfillset(&action.sa_mask);
  if (sigaction(SIGSYS, &action, nullptr) != 0) {
    return Error::FromErrno(errno, "cannot take SIGSYS over");
  }
  return {};
}

}  // namespace pacsvisor
