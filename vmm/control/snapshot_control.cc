#include "vmm/control/snapshot_control.h"

#include <algorithm>
#include <array>

namespace pacsvisor {
namespace {

constexpr std::array kPhases = {SnapshotPhase::kCopying, SnapshotPhase::kPausing,
                                SnapshotPhase::kWriting, SnapshotPhase::kCommitting,
                                SnapshotPhase::kDone,    SnapshotPhase::kFailed};

bool IsControlCharacter(char character) {
  const auto byte = static_cast<uint8_t>(character);
  return byte < 0x20 || byte == 0x7f;
}

}  // namespace

Status CheckSnapshotRequest(const SnapshotRequest& request) {
  if (request.message.size() > SnapshotRequest::kMaxMessageBytes) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the message has {} bytes: at most {} are kept with a snapshot",
                       request.message.size(), SnapshotRequest::kMaxMessageBytes);
  }
  if (std::any_of(request.message.begin(), request.message.end(), IsControlCharacter)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the message holds a control character: give it as one line of text");
  }
  if (request.pause_budget_us < SnapshotRequest::kMinPauseBudgetUs ||
      request.pause_budget_us > SnapshotRequest::kMaxPauseBudgetUs) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "a pause budget of {} us is out of range: {} us to {} s",
                       request.pause_budget_us, SnapshotRequest::kMinPauseBudgetUs,
                       SnapshotRequest::kMaxPauseBudgetUs / 1'000'000);
  }
  if (request.quiesce_timeout_ms > SnapshotRequest::kMaxQuiesceTimeoutMs) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "a time limit of {} ms for quiescing is out of range: at most {} ms",
                       request.quiesce_timeout_ms, SnapshotRequest::kMaxQuiesceTimeoutMs);
  }
  return {};
}

std::string_view SnapshotPhaseName(SnapshotPhase phase) {
  switch (phase) {
    case SnapshotPhase::kCopying:
      return "copying";
    case SnapshotPhase::kPausing:
      return "pausing";
    case SnapshotPhase::kWriting:
      return "writing";
    case SnapshotPhase::kCommitting:
      return "committing";
    case SnapshotPhase::kDone:
      return "done";
    case SnapshotPhase::kFailed:
      return "failed";
  }
  CHECK(false, "phase {}", static_cast<int>(phase));
}

std::optional<SnapshotPhase> ParseSnapshotPhase(std::string_view name) {
  const auto found = std::find_if(kPhases.begin(), kPhases.end(), [&](SnapshotPhase phase) {
    return SnapshotPhaseName(phase) == name;
  });
  return found == kPhases.end() ? std::nullopt : std::optional(*found);
}

}  // namespace pacsvisor
