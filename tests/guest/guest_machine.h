// A machine under test and its serial console as a dialogue: send a line, wait for what must come.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "vmm/machine/machine.h"

namespace pacsvisor {

class GuestMachine {
 public:
  // Nothing a guest does is waited for longer than this.
  static constexpr std::chrono::seconds kDeadline{120};

  explicit GuestMachine(const MachineConfig& config, const std::string& agent_socket = {});
  // Over resources that the test has opened itself; `for_load`: memory is left empty.
  GuestMachine(const MachineConfig& config, std::shared_ptr<const HostResources> host,
               bool for_load = false);
  ~GuestMachine();

  Machine& machine() { return *machine_; }
  void Start();

  // Waits for `text` in the output behind what earlier calls have found. The line it stands in,
  // empty (and a test failure) when the machine ends or the deadline passes first.
  std::string Expect(std::string_view text);
  void Send(std::string_view line);  // and a newline
  // The same to the test image's shell, once its prompt is there: what is typed before is lost when
  // the guest opens its serial line anew.
  void SendToShell(std::string_view line);
  // A command of the dirtier: the rest of its "ok COMMAND " line.
  std::string Ask(const std::string& command);
  // The number behind "key=" in an answer.
  static uint64_t Number(const std::string& answer, const std::string& key);

  // The machine's end, within the deadline; kHostFailure and a test failure when it does not come.
  MachineEnd WaitForEnd();
  std::string output() const;

 private:
  void Collect(std::span<const uint8_t> bytes);
  MachineOptions Options();
  void Adopt(Result<std::unique_ptr<Machine>> built);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string output_;
  size_t found_ = 0;
  bool ended_ = false;
  MachineEnd end_;
  std::unique_ptr<Machine> machine_;
  std::thread waiter_;
};

// A machine that boots the dirtier.
MachineConfig DirtierConfig(uint64_t memory_bytes, uint32_t cpus, const std::string& more = "");

}  // namespace pacsvisor
