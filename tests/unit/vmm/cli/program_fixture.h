// The program itself, run as a user runs it, in a runtime directory of its own.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/temporary_directory.h"
#include "vmm/base/check.h"

namespace pacsvisor {

struct Outcome {
  int status = -1;
  std::string out;
  std::string err;
};

class ProgramTest : public testing::Test {
 protected:
  // A program that hangs is ended by SIGALRM, which it leaves alone.
  static constexpr unsigned kLimitSeconds = 60;

  // `prepare` runs in the child, its streams in place.
  Outcome Run(
      std::vector<std::string> arguments, const std::function<void()>& prepare = [] {}) {
    const std::string out = directory_.path().string() + "/out";
    const std::string err = directory_.path().string() + "/err";
    arguments.insert(arguments.begin(), PACSVISOR_PROGRAM);
    const pid_t child = fork();
    if (child == 0) {
      setenv("PACSVISOR_RUNTIME_DIR", base_.c_str(), 1);
      const int flags = O_WRONLY | O_CREAT | O_TRUNC;
      if (dup2(open("/dev/null", O_RDONLY), 0) != 0 ||
          dup2(open(out.c_str(), flags, 0600), 1) != 1 ||
          dup2(open(err.c_str(), flags, 0600), 2) != 2) {
        _exit(126);
      }
      alarm(kLimitSeconds);
      prepare();
      std::vector<char*> argv;
      for (std::string& argument : arguments) {
        argv.push_back(argument.data());
      }
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            .out = Read(out),
            .err = Read(err)};
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = directory_.path().string() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  std::string Path(const std::string& name) const {
    return directory_.path().string() + "/" + name;
  }

  TemporaryDirectory directory_;
  const std::string base_ = directory_.path().string() + "/run";
};

}  // namespace pacsvisor
