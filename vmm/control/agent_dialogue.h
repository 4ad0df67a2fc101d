// What is said to the guest's agent, and what it says (qemu-guest-agent's protocol: JSON by lines,
// guest-sync-delimited). All that comes from there is the guest's: bounded in size and time, read
// as JSON from outside, and shown to people only as printable text. Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "vmm/base/local_line.h"
#include "vmm/base/result.h"

namespace pacsvisor {

class AgentDialogue {
 public:
  static constexpr size_t kAnswerLimitBytes = 64 * 1024;

  // How long an answer is waited for.
  struct Patience {
    uint64_t deadline_ns = 0;       // CLOCK_MONOTONIC
    std::function<bool()> give_up;  // asked often; kCancelled then
  };

  explicit AgentDialogue(LocalLine& line);
  ~AgentDialogue();  // closes
  AgentDialogue(const AgentDialogue&) = delete;
  AgentDialogue& operator=(const AgentDialogue&) = delete;

  // Opens the line; what was half said or not yet answered, by whomever, is no matter from here on.
  Status Synchronize(const Patience& patience);
  // The "return" of its answer. Errors: kUnsupported (the agent refuses, in its words), kTimeout,
  // kCancelled, kCorrupt (no answer of this protocol).
  Result<nlohmann::json> Ask(std::string_view command, const nlohmann::json& arguments,
                             const Patience& patience);
  // Both in one go: `command` is there for an agent that wakes up only later.
  Result<nlohmann::json> SynchronizeAndAsk(std::string_view command, const Patience& patience);
  void Close();

 private:
  Status Say(std::string_view text);
  Status BeginSynchronizing();
  Status AwaitSynchronized(const Patience& patience);
  Result<nlohmann::json> Hear(std::string_view command, const Patience& patience);
  Status ReadMore(const Patience& patience);
  Result<std::string> ReadLine(const Patience& patience);

  LocalLine& line_;
  uint64_t sync_id_;
  std::string come_;  // and not yet taken
};

}  // namespace pacsvisor
