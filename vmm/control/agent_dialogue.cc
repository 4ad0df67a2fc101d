#include "vmm/control/agent_dialogue.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vmm/base/clock.h"
#include "vmm/control/untrusted_json.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

constexpr char kDelimiter = '\xff';  // in no JSON text: the agent's parser begins anew
constexpr uint64_t kSyncIdMask = 0x7fff'ffff;
constexpr size_t kWordsLimitBytes = 160;

std::string Command(std::string_view command, const Json& arguments) {
  Json request = {{"execute", command}};
  if (!arguments.empty()) {
    request["arguments"] = arguments;
  }
  return request.dump() + "\n";
}

// The guest's words for a log line or a record.
std::string Words(const Json& error) {
  const auto found = error.is_object() ? error.find("desc") : error.end();
  if (!error.is_object() || found == error.end() || !found->is_string()) {
    return "it gives no reason";
  }
  std::string words = found->get<std::string>().substr(0, kWordsLimitBytes);
  std::ranges::replace_if(
      words, [](char c) { return c < ' ' || c > '~'; }, '?');
  return "'" + words + "'";
}

}  // namespace

AgentDialogue::AgentDialogue(LocalLine& line) : line_(line), sync_id_(MonotonicNs()) {}

AgentDialogue::~AgentDialogue() { Close(); }

void AgentDialogue::Close() {
  line_.Close();
  come_.clear();
}

Status AgentDialogue::Say(std::string_view text) {
  return line_.Write(text)
             ? Status()
             : Error::Make(ErrorCode::kTimeout, "the guest agent does not take what it is told");
}

Status AgentDialogue::BeginSynchronizing() {
  line_.Open();
  come_.clear();
  sync_id_ = (sync_id_ + 1) & kSyncIdMask;
  return Say(kDelimiter + Command("guest-sync-delimited", {{"id", sync_id_}}));
}

Status AgentDialogue::AwaitSynchronized(const Patience& patience) {
  while (true) {
    const size_t delimiter = come_.find(kDelimiter);
    if (delimiter == std::string::npos) {
      come_.clear();
      TRY(ReadMore(patience));
      continue;
    }
    come_.erase(0, delimiter + 1);
    const Result<std::string> line = ReadLine(patience);
    if (!line.ok() && line.error().code() != ErrorCode::kCorrupt) {
      return line.error();
    }
    const Result<Json> answer =
        line.ok() ? ParseUntrustedJson(*line, kAnswerLimitBytes) : Result<Json>(line.error());
    // Another's, from before, or rubbish: ours is still to come.
    if (answer.ok() && answer->is_object() && answer->contains("return") &&
        (*answer)["return"] == sync_id_) {
      return {};
    }
  }
}

Status AgentDialogue::Synchronize(const Patience& patience) {
  TRY(BeginSynchronizing());
  return AwaitSynchronized(patience);
}

Result<Json> AgentDialogue::Ask(std::string_view command, const Json& arguments,
                                const Patience& patience) {
  TRY(Say(Command(command, arguments)));
  return Hear(command, patience);
}

Result<Json> AgentDialogue::SynchronizeAndAsk(std::string_view command, const Patience& patience) {
  TRY(BeginSynchronizing());
  TRY(Say(Command(command, Json::object())));
  TRY(AwaitSynchronized(patience));
  return Hear(command, patience);
}

Result<Json> AgentDialogue::Hear(std::string_view command, const Patience& patience) {
  const std::string line = TRY(ReadLine(patience));
  const Result<Json> answer = ParseUntrustedJson(line, kAnswerLimitBytes);
  if (answer.ok() && answer->is_object()) {
    if (const auto found = answer->find("return"); found != answer->end()) {
      return *found;
    }
    if (const auto found = answer->find("error"); found != answer->end()) {
      return Error::Make(ErrorCode::kUnsupported, "the guest agent refuses {}: {}", command,
                         Words(*found));
    }
  }
  return Error::Make(ErrorCode::kCorrupt, "the guest agent answers {} with rubbish", command);
}

Status AgentDialogue::ReadMore(const Patience& patience) {
  const std::string more = line_.Read(patience.deadline_ns, patience.give_up);
  if (!more.empty()) {
    come_ += more;
    // Whoever floods us is not waited for beyond the deadline either.
    if (!patience.give_up() && MonotonicNs() < patience.deadline_ns) {
      return {};
    }
  }
  if (patience.give_up()) {
    return Error::Make(ErrorCode::kCancelled, "the guest agent is not waited for any longer");
  }
  return Error::Make(ErrorCode::kTimeout, "the guest agent does not answer in time");
}

Result<std::string> AgentDialogue::ReadLine(const Patience& patience) {
  size_t end = come_.find('\n');
  while (end == std::string::npos) {
    if (come_.size() > kAnswerLimitBytes) {
      return Error::Make(ErrorCode::kCorrupt, "the guest agent's answer has more than {} bytes",
                         kAnswerLimitBytes);
    }
    TRY(ReadMore(patience));
    end = come_.find('\n');
  }
  std::string line = come_.substr(0, end);
  come_.erase(0, end + 1);
  return line;
}

}  // namespace pacsvisor
