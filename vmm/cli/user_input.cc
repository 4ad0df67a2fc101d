#include "vmm/cli/user_input.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"

namespace pacsvisor {

Result<std::unique_ptr<UserInput>> UserInput::Start(UniqueFd signals, bool has_terminal,
                                                    MachineSession& session, Say say) {
  std::unique_ptr<UserInput> input(new UserInput(std::move(signals), session, std::move(say)));
  UserInput* const self = input.get();
  input->loop_ = TRY(EventLoop::Create("user", ThreadKind::kControl));
  TRY(input->loop_->Add(self->signals_.get(), EPOLLIN, [self](uint32_t) { self->OnSignal(); }));
  if (has_terminal) {
    input->terminal_ = TRY(RawTerminal::Enter(STDIN_FILENO));
    TRY(input->loop_->Add(STDIN_FILENO, EPOLLIN, [self](uint32_t) { self->OnKeys(); }));
    input->say_("[pacsvisor: Ctrl-] x leaves, Ctrl-] ? helps]\r\n");
  }
  TRY(input->loop_->Start());
  return input;
}

UserInput::UserInput(UniqueFd signals, MachineSession& session, Say say)
    : signals_(std::move(signals)), session_(session), say_(std::move(say)) {}

UserInput::~UserInput() {
  if (loop_ != nullptr) {
    loop_->Stop();
  }
}

void UserInput::OnSignal() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    switch (end_signals_.Take(MonotonicNs())) {
      case EndSignals::Meaning::kPowerButton:
        Log(LogLevel::kInfo, "signal {}: power button", info.ssi_signo);
        AskForStop(/*force=*/false);
        break;
      case EndSignals::Meaning::kRepeated:
        Log(LogLevel::kDebug, "signal {}: one wish with the first", info.ssi_signo);
        break;
      case EndSignals::Meaning::kForce:
        Log(LogLevel::kInfo, "signal {}: by force", info.ssi_signo);
        AskForStop(/*force=*/true);
        break;
    }
  }
}

void UserInput::OnKeys() {
  std::array<uint8_t, 256> buffer;
  const ssize_t count = read(STDIN_FILENO, buffer.data(), buffer.size());
  if (count <= 0) {
    if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
      loop_->Remove(STDIN_FILENO);  // the end of input ends no machine
    }
    return;
  }
  const ConsoleEscape::Typed typed =
      escape_.Take(std::span(buffer).first(static_cast<size_t>(count)));
  if (!typed.for_guest.empty()) {
    session_.ConsoleInput(typed.for_guest);
  }
  for (const ConsoleEscape::Action action : typed.actions) {
    if (action == ConsoleEscape::Action::kHelp) {
      say_(ConsoleEscape::Help());
    } else {
      const bool force = std::exchange(leave_typed_, true);
      say_(force ? "\r\n[pacsvisor: by force]\r\n" : "\r\n[pacsvisor: power button]\r\n");
      AskForStop(force);
    }
  }
}

void UserInput::AskForStop(bool force) {
  const Status asked = session_.RequestStop({.force = force});
  CHECK(asked.ok(), "{}", asked.error().message());  // it only notes what is asked for
}

}  // namespace pacsvisor
