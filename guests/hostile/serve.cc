#include "guests/hostile/serve.h"

#include "devices/block/block_abi.h"
#include "devices/console/virtio_console_abi.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint64_t kPatience = 20 * kCyclesPerSecond;
constexpr uint32_t kBlockBytes = 4096;
constexpr uint32_t kSectorBytes = 512;

// A queue of a driver that waits for each request.
class Conversation {
 public:
  Conversation(Battle& battle, const Driver& driver, uint16_t queue)
      : driver_(driver), queue_(queue), ring_(battle.arena, 16) {
    driver_.Enable(queue, ring_.layout());
  }
  Ring& ring() { return ring_; }
  // The chain of head 0; false: it did not come back.
  bool Ask() {
    const auto expected = static_cast<uint16_t>(ring_.available_index() + 1);
    ring_.Offer(0);
    driver_.Notify(queue_);
    return ring_.WaitUsed(expected, kPatience);
  }

 private:
  const Driver& driver_;
  const uint16_t queue_;
  Ring ring_;
};

bool AskBlock(Battle& battle, Conversation& queue, VirtioBlockType type, uint64_t sector,
              uint64_t data) {
  const uint64_t header = battle.Buffer(sizeof(VirtioBlockHeader));
  *AtAddress<VirtioBlockHeader>(header) = {.type = static_cast<uint32_t>(type), .sector = sector};
  const uint64_t status = battle.Buffer(1);
  *AtAddress<volatile uint8_t>(status) = 0xee;
  const bool flush = type == VirtioBlockType::kFlush;
  const uint16_t flags = type == VirtioBlockType::kIn ? kWritable | kNext : kNext;
  queue.ring().Describe(
      0, {header, sizeof(VirtioBlockHeader), kNext, flush ? uint16_t{2} : uint16_t{1}});
  queue.ring().Describe(1, {data, kBlockBytes, flags, 2});
  queue.ring().Describe(2, {status, 1, kWritable, 0});
  return queue.Ask() && *AtAddress<volatile uint8_t>(status) == 0;
}

// Waits for a message of the device's on the console's control queue.
struct ControlBuffers {
  static constexpr uint16_t kCount = 8;
  static constexpr uint32_t kBytes = 128;
  uint64_t at = 0;
  uint16_t seen = 0;
};

bool HearEvent(Ring& ring, ControlBuffers& buffers, ConsoleEvent event, uint32_t port) {
  while (ring.WaitUsed(static_cast<uint16_t>(buffers.seen + 1), kPatience)) {
    const VirtqUsedElement used = ring.Used(buffers.seen++);
    const auto message =
        *AtAddress<VirtioConsoleControl>(buffers.at + used.head * ControlBuffers::kBytes);
    ring.Offer(static_cast<uint16_t>(used.head));
    if (message.event == static_cast<uint16_t>(event) && message.port == port) return true;
  }
  return false;
}

bool Tell(Battle& battle, Conversation& control, ConsoleEvent event, uint32_t port) {
  const uint64_t buffer = battle.Buffer(sizeof(VirtioConsoleControl));
  *AtAddress<VirtioConsoleControl>(buffer) = {
      .port = port, .event = static_cast<uint16_t>(event), .value = 1};
  control.ring().Describe(0, {buffer, sizeof(VirtioConsoleControl), kReadable, 0});
  return control.Ask();
}

uint32_t WriteLine(uint64_t buffer, uint64_t number) {
  constexpr std::string_view kWords = "hostile serve ";
  auto* text = AtAddress<volatile char>(buffer);
  uint32_t length = 0;
  for (const char c : kWords) text[length++] = c;
  char digits[20];
  unsigned count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  while (count > 0) text[length++] = digits[--count];
  text[length++] = '\n';
  return length;
}

}  // namespace

std::string_view ServeBlock(Battle& battle) {
  battle.arena.Clear();
  const Function* function = battle.functions.Find(Type::kBlock);
  if (function == nullptr) return {};
  const Driver driver(*function);
  if (!driver.Reset(kPatience)) return "the disk's reset does not end";
  if (!driver.Negotiate(kVirtioBlockFlush | kEventIndexFeature)) return "the disk refuses features";
  Conversation queue(battle, driver, 0);
  driver.DriverOk();
  const uint64_t blocks = Read64(function->device) * kSectorBytes / kBlockBytes;
  const uint64_t sector = battle.random.Below(blocks) * (kBlockBytes / kSectorBytes);
  const uint64_t written = battle.Buffer(kBlockBytes);
  const uint64_t read = battle.Buffer(kBlockBytes);
  for (uint64_t i = 0; i < kBlockBytes; i += 8) {
    *AtAddress<volatile uint64_t>(written + i) = battle.random.Next();
  }
  if (!AskBlock(battle, queue, VirtioBlockType::kOut, sector, written))
    return "no block is written";
  if (!AskBlock(battle, queue, VirtioBlockType::kFlush, 0, 0)) return "the disk does not flush";
  if (!AskBlock(battle, queue, VirtioBlockType::kIn, sector, read)) return "no block is read";
  for (uint64_t i = 0; i < kBlockBytes; i += 8) {
    if (*AtAddress<volatile uint64_t>(written + i) != *AtAddress<volatile uint64_t>(read + i)) {
      return "the disk gives back something else than was written";
    }
  }
  return {};
}

std::string_view ServeRng(Battle& battle) {
  constexpr uint32_t kBytes = 64;
  battle.arena.Clear();
  const Function* function = battle.functions.Find(Type::kRng);
  if (function == nullptr) return {};
  const Driver driver(*function);
  if (!driver.Reset(kPatience)) return "the entropy device's reset does not end";
  if (!driver.Negotiate(0)) return "the entropy device refuses features";
  Conversation queue(battle, driver, 0);
  driver.DriverOk();
  const uint64_t buffer = battle.Buffer(2 * kBytes);
  for (unsigned i = 0; i < 2; ++i) {
    queue.ring().Describe(0, {buffer + kBytes * i, kBytes, kWritable, 0});
    if (!queue.Ask()) return "no random bytes come";
    if (queue.ring().Used(static_cast<uint16_t>(i)).written_bytes != kBytes) {
      return "not all of the random bytes come";
    }
  }
  bool same = true;
  for (uint64_t i = 0; i < kBytes; i += 8) {
    same = same && *AtAddress<volatile uint64_t>(buffer + i) ==
                       *AtAddress<volatile uint64_t>(buffer + kBytes + i);
  }
  return same ? "the same random bytes come twice" : "";
}

std::string_view ServeConsole(Battle& battle, uint64_t number) {
  constexpr uint32_t kAgentPort = 1;
  constexpr uint64_t kMultiport = 2;
  battle.arena.Clear();
  const Function* function = battle.functions.Find(Type::kConsole);
  if (function == nullptr) return {};
  const Driver driver(*function);
  if (!driver.Reset(kPatience)) return "the console's reset does not end";
  if (!driver.Negotiate(kMultiport)) return "the console refuses features";
  Ring hear(battle.arena, 16);
  driver.Enable(kConsoleControlReceiveQueue, hear.layout());
  Conversation control(battle, driver, kConsoleControlTransmitQueue);
  Conversation output(battle, driver, ConsoleTransmitQueue(kAgentPort));
  driver.DriverOk();
  ControlBuffers buffers{.at = battle.Buffer(ControlBuffers::kCount * ControlBuffers::kBytes)};
  for (uint16_t i = 0; i < ControlBuffers::kCount; ++i) {
    hear.Describe(i,
                  {buffers.at + i * ControlBuffers::kBytes, ControlBuffers::kBytes, kWritable, 0});
    hear.Offer(i);
  }
  driver.Notify(kConsoleControlReceiveQueue);
  if (!Tell(battle, control, ConsoleEvent::kDeviceReady, 0)) return "the console hears nothing";
  if (!HearEvent(hear, buffers, ConsoleEvent::kDeviceAdd, kAgentPort)) {
    return "the console tells of no port";
  }
  if (!Tell(battle, control, ConsoleEvent::kPortReady, kAgentPort)) {
    return "the console hears of no port";
  }
  if (!HearEvent(hear, buffers, ConsoleEvent::kPortName, kAgentPort)) {
    return "the port has no name";
  }
  if (!Tell(battle, control, ConsoleEvent::kPortOpen, kAgentPort)) return "the port does not open";
  const uint64_t line = battle.Buffer(64);
  output.ring().Describe(0, {line, WriteLine(line, number), kReadable, 0});
  return output.Ask() ? "" : "the port takes no line";
}

}  // namespace pacsvisor::hostile
