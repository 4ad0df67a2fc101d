// The client side of the control API. Every call has time limits and reads a bounded answer; a
// failure of the machine comes back as the Error it had there.
//
// Threads: one at a time.
#pragma once

#include <string>

#include "vmm/base/result.h"
#include "vmm/control/machine_control.h"

namespace pacsvisor {

class ControlClient {
 public:
  static constexpr int kDefaultTimeoutSeconds = 15;

  explicit ControlClient(std::string socket_path, int timeout_seconds = kDefaultTimeoutSeconds)
      : socket_path_(std::move(socket_path)), timeout_seconds_(timeout_seconds) {}

  Result<MachineDescription> Describe();
  Status Pause();
  Status Resume();
  Status RequestStop(const StopRequest& request);
  Result<uint64_t> StartSnapshot(const SnapshotRequest& request);
  Result<SnapshotProgress> SnapshotStatus(uint64_t number);
  Status CancelSnapshot(uint64_t number);

 private:
  Result<std::string> Call(const char* method, const std::string& path, std::string body);

  const std::string socket_path_;
  const int timeout_seconds_;
};

}  // namespace pacsvisor
