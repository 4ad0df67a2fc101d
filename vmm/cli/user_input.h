// The user's side of a running machine: signals and keys. On a terminal the keys go to the guest
// but for the escapes of ConsoleEscape; otherwise standard input is left alone. Threads: Start and
// the destructor belong to the owner.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "vmm/base/event_loop.h"
#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"
#include "vmm/cli/console_escape.h"
#include "vmm/cli/end_signals.h"
#include "vmm/cli/raw_terminal.h"
#include "vmm/control/machine_session.h"

namespace pacsvisor {

class UserInput {
 public:
  using Say = std::function<void(const std::string& text)>;

  // `signals` is a signalfd of those that ask for the machine's end (EndSignals). `has_terminal`:
  // standard input is a terminal whose keys are ours. `session` must outlive this; `say` shows
  // lines that end in CR LF.
  static Result<std::unique_ptr<UserInput>> Start(UniqueFd signals, bool has_terminal,
                                                  MachineSession& session, Say say);
  ~UserInput();  // the terminal is as it was

 private:
  UserInput(UniqueFd signals, MachineSession& session, Say say);
  void OnSignal();
  void OnKeys();
  void AskForStop(bool force);

  // Constant after construction.
  const UniqueFd signals_;
  MachineSession& session_;
  const Say say_;
  std::unique_ptr<RawTerminal> terminal_;
  std::unique_ptr<EventLoop> loop_;
  // Owned by the loop's thread.
  ConsoleEscape escape_;
  EndSignals end_signals_;
  bool leave_typed_ = false;
};

}  // namespace pacsvisor
