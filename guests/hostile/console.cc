#include "guests/hostile/console.h"

#include "guests/freestanding/cpu.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint64_t kDefaultSeed = 1;

// The number behind `key=`, or `otherwise`; none when it is no number.
std::optional<uint64_t> NumberOf(const Arguments& arguments, std::string_view key,
                                 uint64_t otherwise) {
  const auto text = arguments.Find(key);
  return text ? ParseNumber(*text) : otherwise;
}

}  // namespace

void Console::Step() {
  const std::optional<char> c = serial_.Get();
  if (!c) {
    SpinPause();
    return;
  }
  if (*c != '\n' && *c != '\r') {
    if (line_bytes_ < kMaxLineBytes) line_[line_bytes_++] = *c;
    return;
  }
  const std::string_view line(line_, line_bytes_);
  line_bytes_ = 0;
  if (!line.empty()) Execute(line);
}

void Console::Execute(std::string_view line) {
  const std::string_view command = TakeWord(line);
  if (command == "list") return List();
  if (command == "attack") return RunAttack(line);
  if (command == "rounds") return RunRounds(line);
  if (command == "serve") return Serve(line);
  if (command == "poweroff") return PowerOffMachine();
  Refuse(command, "unknown: list, attack NAME, rounds count=N, serve, poweroff");
}

void Console::Refuse(std::string_view command, std::string_view why) {
  Line(serial_, "error", command).Word(why);
}

void Console::List() {
  for (unsigned i = 0; i < AttackCount(); ++i)
    Line(serial_, "event", "attack").Word(AttackAt(i)->name);
  Line(serial_, "ok", "list").Number("count", AttackCount());
}

void Console::RunAttack(std::string_view words) {
  const std::string_view name = TakeWord(words);
  const Attack* attack = FindAttack(name);
  if (attack == nullptr) return Refuse("attack", "no such attack: try list");
  const auto seed = NumberOf(Arguments(words), "seed", kDefaultSeed);
  if (!seed) return Refuse("attack", "seed= is no number");
  const uint64_t arrived = rounds_.RunAlone(*attack, *seed);
  Line(serial_, "ok", "attack").Text("name", name).Number("arrived", arrived);
}

void Console::RunRounds(std::string_view words) {
  const Arguments arguments(words);
  const auto count = NumberOf(arguments, "count", 1);
  const auto seed = NumberOf(arguments, "seed", kDefaultSeed);
  if (!count || !seed) return Refuse("rounds", "count= and seed= are numbers");
  for (uint64_t round = 0; round < *count; ++round) {
    rounds_.Fight(*seed + round);
    const std::string_view wrong = rounds_.Serve(++served_, *seed + round);
    if (!wrong.empty()) {
      Line line(serial_, "error", "rounds");
      line.Number("round", round).Number("seed", *seed + round).Text("statuses", "");
      for (unsigned k = 0; k < rounds_.functions(); ++k) line.Item(",0x", rounds_.status(k), 16);
      line.Word(wrong);
      return;
    }
    // Progress, so that who watches sees a hang for what it is.
    if (round % 16 == 15) Line(serial_, "event", "round").Number("done", round + 1);
  }
  Line(serial_, "ok", "rounds")
      .Number("count", *count)
      .Number("attacks", *count * rounds_.processors() * kAttacksPerRound);
}

void Console::Serve(std::string_view words) {
  const auto number = NumberOf(Arguments(words), "number", served_ + 1);
  if (!number) return Refuse("serve", "number= is no number");
  served_ = *number;
  const std::string_view wrong = rounds_.Serve(*number, ReadTsc());
  if (!wrong.empty()) return Refuse("serve", wrong);
  Line(serial_, "ok", "serve").Number("number", *number);
}

void Console::PowerOffMachine() {
  if (!power_off_) return Refuse("poweroff", "the command line has no poweroff=");
  Line(serial_, "ok", "poweroff");
  PowerOff(*power_off_);
}

}  // namespace pacsvisor::hostile
