// The program on a pseudo-terminal of its own, as its foreground process.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "vmm/base/check.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class TerminalProgram {
 public:
  enum class Input { kTerminal, kNone };

  TerminalProgram(const std::string& runtime_directory, std::vector<std::string> arguments,
                  Input input = Input::kTerminal) {
    int master = -1;
    int slave = -1;
    CHECK(openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
    master_.Reset(master);
    slave_.Reset(slave);
    CHECK(tcgetattr(slave, &before_) == 0);
    child_ = fork();
    if (child_ == 0) {
      setenv("PACSVISOR_RUNTIME_DIR", runtime_directory.c_str(), 1);
      Exec(slave, input, std::move(arguments));
    }
  }
  ~TerminalProgram() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      Wait();
    }
  }

  // Everything shown so far, once it holds `text`; what was shown up to the end otherwise.
  const std::string& ReadUntil(const std::string& text) {
    while (shown_.find(text) == std::string::npos && ReadSome()) {
    }
    return shown_;
  }
  // What was shown so far: ReadUntil looks behind it.
  void Forget() { shown_.clear(); }
  // Waits a moment for more of it. False when nothing is left to come.
  bool ReadOn() { return ReadSome(); }
  void Type(const std::string& keys) {
    CHECK(write(master_.get(), keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
  }
  void Signal(int number) { CHECK(kill(child_, number) == 0); }

  bool IsRaw() const { return (Mode().c_lflag & ICANON) == 0; }
  bool IsAsBefore() const {
    const termios now = Mode();
    return now.c_lflag == before_.c_lflag && now.c_iflag == before_.c_iflag &&
           now.c_oflag == before_.c_oflag;
  }
  // Its exit status, or 128 and the signal that ended it. `shown` is whole then.
  int Wait() {
    int status = 0;
    while (waitpid(child_, &status, WNOHANG) == 0) {
      ReadSome();
    }
    child_ = -1;
    while (ReadSome()) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& shown() const { return shown_; }

 private:
  static constexpr int kPollMs = 100;

  [[noreturn]] static void Exec(int slave, Input input, std::vector<std::string> arguments) {
    setsid();
    const int in = input == Input::kTerminal ? slave : open("/dev/null", O_RDONLY);
    if (ioctl(slave, TIOCSCTTY, 0) != 0 || dup2(in, 0) != 0 || dup2(slave, 1) != 1 ||
        dup2(slave, 2) != 2) {
      _exit(126);
    }
    arguments.insert(arguments.begin(), PACSVISOR_PROGRAM);
    std::vector<char*> argv;
    for (std::string& argument : arguments) {
      argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }

  termios Mode() const {
    termios mode = {};
    CHECK(tcgetattr(slave_.get(), &mode) == 0);
    return mode;
  }
  bool Ended() const {
    siginfo_t info = {};
    return child_ < 0 ||
           waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid != 0;
  }
  // False when nothing is left to read and nobody to write.
  bool ReadSome() {
    const bool ended = Ended();
    pollfd entry = {.fd = master_.get(), .events = POLLIN, .revents = 0};
    if (poll(&entry, 1, ended ? 0 : kPollMs) <= 0) {
      return !ended;
    }
    char buffer[4096];
    const ssize_t count = read(master_.get(), buffer, sizeof(buffer));
    shown_.append(buffer, static_cast<size_t>(count > 0 ? count : 0));
    return count > 0;
  }

  UniqueFd master_;
  UniqueFd slave_;
  termios before_ = {};
  pid_t child_ = -1;
  std::string shown_;
};

}  // namespace pacsvisor
