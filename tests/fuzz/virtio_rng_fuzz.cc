// virtio-rng: any rings and registers, and a clock that jumps; saved, taken over by another device
// from state that may have been changed, reset (hostile_device.h). Whatever the bytes say, the
// device lives on.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "devices/rng/virtio_rng.h"
#include "tests/fuzz/hostile_device.h"
#include "vmm/base/log.h"

namespace pacsvisor {
namespace {

std::atomic<uint64_t> clock_ns = 0;

struct Card {
  explicit Card(GuestMemory& memory)
      : hostile(VirtioRng::Create({.clock = [] { return clock_ns.load(); }}).value(), memory) {
    hostile.OnHost([](uint16_t ms) { clock_ns += uint64_t{ms} * 1'000'000; });
  }

  HostileDevice hostile;
};

void Run(FuzzInput input) {
  static FuzzMemory memory;
  static const auto make = [] { return std::make_unique<Card>(memory.memory()); };
  static std::unique_ptr<Card> card = make();
  static std::unique_ptr<Card> twin = make();
  memory.Clean();
  // Up to a quarter of a second: from no token more to a full bucket.
  clock_ns += uint64_t{input.Take<uint8_t>()} * 1'000'000;
  card->hostile.Begin(input);
  PlayHostileLife(card, twin, input, make);
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kOff);
  pacsvisor::Run(pacsvisor::FuzzInput({data, size}));
  return 0;
}
