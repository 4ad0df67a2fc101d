// The directory of a running machine: BASE/NAME/ (0700) with `lock` (an OFD lock held while the
// machine runs, the holder's pid in it), `control.sock` and `agent.sock`. BASE is
// $PACSVISOR_RUNTIME_DIR, or /run/pacsvisor for root, or $XDG_RUNTIME_DIR/pacsvisor.
//
// The lock lapses with its process, however that ends: what a dead machine left is taken over by
// the next of its name, and nobody else touches it.
//
// Threads: any.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class RuntimeDirectory {
 public:
  // kBusy names the process that holds `name`.
  static Result<RuntimeDirectory> Claim(const std::string& base, const std::string& name);
  RuntimeDirectory(RuntimeDirectory&& other) = default;
  RuntimeDirectory& operator=(RuntimeDirectory&&) = delete;
  ~RuntimeDirectory();  // removes what is in it, then the directory, then lets the lock go

  // What the destructor removes, for a process that ends without it. The name is free when the
  // process is gone.
  void Remove() const;

  const std::string& path() const { return path_; }
  std::string socket_path() const { return path_ + "/control.sock"; }
  std::string agent_socket_path() const { return path_ + "/agent.sock"; }

 private:
  RuntimeDirectory(std::string path, UniqueFd directory, UniqueFd lock)
      : path_(std::move(path)), directory_(std::move(directory)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd directory_;
  UniqueFd lock_;
};

// BASE of this user and environment.
Result<std::string> RuntimeBase();

// The directory in BASE where machines note which disk images they hold; created when missing.
Result<std::string> ImageRecordDirectory(const std::string& base);

struct RunningMachine {
  std::string name;
  int64_t pid = 0;  // 0: it has the lock and has not yet written its pid
  std::string socket_path;
};

// By name. A base that is not there holds none.
Result<std::vector<RunningMachine>> ListRunningMachines(const std::string& base);
// kNotFound says so in the words of a user.
Result<RunningMachine> FindRunningMachine(const std::string& base, const std::string& name);

}  // namespace pacsvisor
