// A program that runs a guest, as a child process, and a dialogue with the guest's console over its
// standard input and output.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class GuestProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;                            // the program's path first
    std::vector<std::pair<std::string, std::string>> environment;  // beside the test's own
    bool refuse_uring = false;  // as a host without io_uring, or one that forbids it
    std::string error_log;      // where its standard error goes; empty: to the test's
  };

  explicit GuestProcess(Options options);
  ~GuestProcess();  // kills it

  pid_t pid() const { return pid_; }
  // Every line of output that was looked at so far.
  const std::string& seen() const { return seen_; }

  void Send(const std::string& line);
  // The next line of output that holds `text`; empty (and a test failure) when the process ends
  // first or nothing comes for longer than the deadline.
  std::string Expect(const std::string& text);
  // Every whole line of output that has come and was not returned yet, up to the process's end.
  std::vector<std::string> TakeRest();
  // SIGKILL; returns when the process is no more.
  void Kill();
  int WaitForExit();  // its status; 128 and the signal's number when one ended it

 private:
  bool TakeLine(std::string& line);
  bool ReadSome(int timeout_ms);  // false: nothing more will come

  pid_t pid_ = -1;
  UniqueFd to_guest_;
  UniqueFd from_guest_;
  std::string output_;
  std::string seen_;
};

}  // namespace pacsvisor
