// What is asked of the guest's agent: to freeze its file systems for the instant of a snapshot, to
// thaw them, to set its clock.
//
// A freeze that may have come about, wholly or in part, is owed a thaw from the moment it is asked
// for: one is sent whatever the answer is, and until one is confirmed the next freeze begins with
// it. File systems that somebody else has frozen are left alone. Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>

#include "vmm/base/local_line.h"
#include "vmm/base/result.h"
#include "vmm/control/agent_dialogue.h"

namespace pacsvisor {

class GuestAgent {
 public:
  // `gone`: the guest does not run any more, and no answer is waited for. `line` is borrowed.
  GuestAgent(LocalLine& line, std::function<bool()> gone);

  // Whether an agent has its port open.
  bool listens() const { return line_.listened(); }
  bool owes_thaw() const { return owes_thaw_; }
  // The file systems may be frozen, by somebody of before: a restored guest's.
  void OweThaw() { owes_thaw_ = true; }

  // Returns with every file system frozen, or an error that says why they are not: a thaw has been
  // sent then. `give_up` is asked often. To be followed by Thaw in any case: nobody else is heard
  // by the agent until then.
  Status Freeze(uint32_t timeout_ms, const std::function<bool()>& give_up);
  // Where one is owed, asked for again and again until it is confirmed. An error says that the file
  // systems may be frozen still.
  Status Thaw(uint32_t timeout_ms);
  // To the host's time of the moment.
  Status SetTime(uint32_t timeout_ms, const std::function<bool()>& give_up);

 private:
  AgentDialogue::Patience Until(uint64_t deadline_ns, std::function<bool()> give_up) const;
  Status FreezeOnce(const AgentDialogue::Patience& patience);
  Status ThawOnce(const AgentDialogue::Patience& patience);
  Status ExpectStatus(std::string_view wanted, const AgentDialogue::Patience& patience);

  LocalLine& line_;
  const std::function<bool()> gone_;
  AgentDialogue dialogue_;
  bool owes_thaw_ = false;
};

}  // namespace pacsvisor
