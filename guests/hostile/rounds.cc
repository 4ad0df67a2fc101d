#include "guests/hostile/rounds.h"

#include "guests/freestanding/cpu.h"
#include "guests/freestanding/processors.h"
#include "guests/freestanding/ring0.h"
#include "guests/hostile/serve.h"

namespace pacsvisor::hostile {

void Rounds::Prepare(const Functions& functions, const MemoryEnds& memory, uint64_t arenas,
                     unsigned processors) {
  functions_ = &functions;
  memory_ = memory;
  processors_ = processors;
  for (unsigned i = 0; i < processors; ++i) arenas_[i].Start(arenas + i * Arena::kBytes);
}

Battle Rounds::MakeBattle(unsigned processor, uint64_t seed) {
  return {.functions = *functions_,
          .memory = memory_,
          .arena = arenas_[processor],
          .random = Random(seed),
          .has_ports = processor == 0};
}

void Rounds::AttackAtRandom(unsigned processor, uint64_t seed) {
  Battle battle = MakeBattle(processor, seed * kMaxProcessors + processor);
  battle.in_crowd = true;
  for (unsigned done = 0; done < kAttacksPerRound;) {
    const Attack& attack = *AttackAt(static_cast<unsigned>(battle.random.Below(AttackCount())));
    if (attack.needs_ports && !battle.has_ports) continue;
    battle.arena.Clear();
    attack.run(battle);
    ++done;
  }
}

void Rounds::Fight(uint64_t seed) {
  seed_ = seed;
  finished_.store(0, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  AttackAtRandom(0, seed);
  while (finished_.load(std::memory_order_acquire) + 1 < processors_) SpinPause();
}

uint64_t Rounds::RunAlone(const Attack& attack, uint64_t seed) {
  Battle battle = MakeBattle(0, seed);
  battle.arena.Clear();
  attack.run(battle);
  return battle.arrived;
}

void Rounds::Quieten(Type type) {
  const Function& function = *functions_->Find(type);
  const Driver driver(function);
  statuses_[&function - functions_->all] = driver.status();
  driver.Reset(kCyclesPerSecond);
}

std::string_view Rounds::Serve(uint64_t number, uint64_t seed) {
  if (!RestoreFunctions(*functions_)) return "a device's reset does not end";
  Battle battle = MakeBattle(0, seed);
  // Each is reset before the next uses the arena: a card, for one, receives when it likes.
  std::string_view wrong = ServeBlock(battle);
  Quieten(Type::kBlock);
  if (wrong.empty()) wrong = ServeNet(battle);
  Quieten(Type::kNet);
  if (wrong.empty()) wrong = ServeRng(battle);
  Quieten(Type::kRng);
  if (wrong.empty()) wrong = ServeConsole(battle, number);
  Quieten(Type::kConsole);
  return wrong;
}

void Rounds::Follow(unsigned processor) {
  if (!ArriveAsProcessor(processor)) HaltProcessor();
  for (uint64_t seen = 0;;) {
    if (round_.load(std::memory_order_acquire) == seen) {
      SpinPause();
      continue;
    }
    ++seen;
    AttackAtRandom(processor, seed_);
    finished_.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace pacsvisor::hostile
