#include "vmm/control/guest_agent.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kAgentNsPerMs = 1'000'000;
// A freeze that failed delays the snapshot by no more than this; the thaw after the pause has its
// own limit.
constexpr uint32_t kThawAfterFailureMs = 1'000;
constexpr uint64_t kThawAttemptNs = 2'000 * kAgentNsPerMs;
constexpr std::chrono::milliseconds kThawAgainAfter{100};

uint64_t DeadlineIn(uint32_t timeout_ms) { return MonotonicNs() + timeout_ms * kAgentNsPerMs; }

}  // namespace

GuestAgent::GuestAgent(LocalLine& line, std::function<bool()> gone)
    : line_(line), gone_(std::move(gone)), dialogue_(line) {}

AgentDialogue::Patience GuestAgent::Until(uint64_t deadline_ns,
                                          std::function<bool()> give_up) const {
  return {.deadline_ns = deadline_ns, .give_up = [this, give_up = std::move(give_up)] {
            return gone_() || (give_up && give_up());
          }};
}

Status GuestAgent::Freeze(uint32_t timeout_ms, const std::function<bool()>& give_up) {
  if (!listens()) {
    return Error::Make(ErrorCode::kNotFound,
                       "no guest agent has its port open: install and start qemu-guest-agent in "
                       "the guest");
  }
  Status frozen = FreezeOnce(Until(DeadlineIn(timeout_ms), give_up));
  if (frozen.ok()) {
    return frozen;
  }
  if (owes_thaw_) {
    // Not confirmed: Thaw, which follows, goes on with it.
    (void)Thaw(kThawAfterFailureMs);
  }
  dialogue_.Close();
  return frozen;
}

Status GuestAgent::FreezeOnce(const AgentDialogue::Patience& patience) {
  if (owes_thaw_) {
    TRY(ThawOnce(patience));
    owes_thaw_ = false;
  } else {
    TRY(dialogue_.Synchronize(patience));
    TRY(ExpectStatus("thawed", patience));
  }
  owes_thaw_ = true;
  const Json count = TRY(dialogue_.Ask("guest-fsfreeze-freeze", Json::object(), patience));
  if (!count.is_number_integer() || count.get<int64_t>() < 1) {
    return Error::Make(ErrorCode::kUnsupported, "the guest agent froze no file system");
  }
  return ExpectStatus("frozen", patience);
}

Status GuestAgent::ExpectStatus(std::string_view wanted, const AgentDialogue::Patience& patience) {
  const Json status = TRY(dialogue_.Ask("guest-fsfreeze-status", Json::object(), patience));
  if (status == wanted) {
    return {};
  }
  if (status == "frozen") {
    return Error::Make(ErrorCode::kBusy, "the guest's file systems are frozen by somebody else");
  }
  return Error::Make(ErrorCode::kUnsupported,
                     "the guest agent does not confirm that the file systems are {}", wanted);
}

Status GuestAgent::ThawOnce(const AgentDialogue::Patience& patience) {
  TRY(dialogue_.SynchronizeAndAsk("guest-fsfreeze-thaw", patience));
  const Json status = TRY(dialogue_.Ask("guest-fsfreeze-status", Json::object(), patience));
  return status == "thawed"
             ? Status()
             : Error::Make(ErrorCode::kUnsupported, "the guest agent has not thawed all of them");
}

Status GuestAgent::Thaw(uint32_t timeout_ms) {
  const uint64_t deadline_ns = DeadlineIn(timeout_ms);
  Status thawed;
  while (owes_thaw_) {
    Status attempt = ThawOnce(Until(std::min(deadline_ns, MonotonicNs() + kThawAttemptNs), {}));
    owes_thaw_ = !attempt.ok();
    // What the agent once said tells more than that it was cut short.
    if (attempt.ok() || thawed.ok() || attempt.error().code() != ErrorCode::kTimeout) {
      thawed = std::move(attempt);
    }
    if (!owes_thaw_ || MonotonicNs() >= deadline_ns || gone_()) {
      break;
    }
    std::this_thread::sleep_for(kThawAgainAfter);
  }
  dialogue_.Close();
  return thawed.ok() ? std::move(thawed)
                     : std::move(thawed).error().WithContext(
                           "the guest's file systems may be frozen still");
}

Status GuestAgent::SetTime(uint32_t timeout_ms, const std::function<bool()>& give_up) {
  const AgentDialogue::Patience patience = Until(DeadlineIn(timeout_ms), give_up);
  Status set = dialogue_.Synchronize(patience);
  if (set.ok()) {
    const Result<Json> answer = dialogue_.Ask("guest-set-time", {{"time", RealtimeNs()}}, patience);
    set = answer.ok() ? Status() : Status(answer.error());
  }
  dialogue_.Close();
  return set;
}

}  // namespace pacsvisor
