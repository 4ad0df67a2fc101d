// The hostile driver guest (guests/hostile) against the emulated hardware: every attack arrives
// (the device's counter for it says so), nothing else comes of it (every device serves afterwards,
// the machine pauses and goes on), alone and from several processors at once.
//
// PACSVISOR_ROUNDS=N changes how many rounds at random there are, PACSVISOR_SEED=N with which seed
// they begin. Suites named Full run many.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>

#include "tests/guest/guest_machine.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/devices/console/socket_client.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kDiskBytes = 16 * kMiB;
const std::vector<std::string> kAllDevices = {"disk0", "net0", "console0", "rng0"};

class HostileMachine {
 public:
  HostileMachine(uint64_t memory_bytes, uint32_t cpus)
      : guest_(ConfigOf(memory_bytes, cpus), files_.path() / "agent") {
    guest_.Start();
    guest_.Expect("event ready");
  }

  GuestMachine& guest() { return guest_; }

  uint64_t Count(const std::string& device, GuestFault fault) {
    for (const DeviceFaults& one : guest_.machine().GuestFaults()) {
      for (const GuestFaultCount& count : one.faults) {
        if (one.device == device && count.fault == fault) {
          return count.count;
        }
      }
    }
    return 0;
  }
  std::string AllCounts() {
    std::string text;
    for (const DeviceFaults& one : guest_.machine().GuestFaults()) {
      for (const GuestFaultCount& count : one.faults) {
        text += fmt::format("{} {} {}\n", one.device, GuestFaultName(count.fault), count.count);
      }
    }
    return text;
  }

  // All devices serve a well-behaved driver; the line it says on the agent's port comes.
  void ExpectServes(unsigned number) {
    console_test::SocketClient client((files_.path() / "agent").string());
    ASSERT_TRUE(client.connected());
    guest_.Send(fmt::format("serve number={}", number));
    EXPECT_THAT(guest_.Expect(" serve "), testing::StartsWith("ok serve "));
    const std::string line = fmt::format("hostile serve {}\n", number);
    EXPECT_EQ(client.Read(line.size()), line);
  }
  void ExpectPausesAndGoesOn() {
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(guest_.machine().Pause().ok());
      ASSERT_TRUE(guest_.machine().paused());
      ASSERT_TRUE(guest_.machine().Resume().ok());
    }
  }

 private:
  MachineConfig ConfigOf(uint64_t memory_bytes, uint32_t cpus) {
    MachineConfig config;
    config.name = "hostile";
    config.cpus = cpus;
    config.memory_bytes = memory_bytes;
    config.boot.kernel = PACSVISOR_HOSTILE;
    config.boot.cmdline = fmt::format("cpus={} poweroff=port:0x600:0x34:1", cpus);
    config.disks.push_back({.path = files_.MakeFile("disk", kDiskBytes), .serial = "hostile"});
    config.nets.push_back({.mac = DefaultMac(config.name, 0), .isolated = true});
    config.agent_enabled = true;
    return config;
  }

  TemporaryDirectory files_;
  GuestMachine guest_;
};

// ---- each attack by itself

struct AttackCase {
  std::string name;
  uint64_t arrived;                // times that the guest must see a refusal
  std::vector<GuestFault> faults;  // each of which each of `devices` must have counted
  std::vector<std::string> devices = kAllDevices;
  uint64_t memory_bytes = 64 * kMiB;

  friend void PrintTo(const AttackCase& one, std::ostream* out) { *out << one.name; }
};

class HostileAttack : public testing::TestWithParam<AttackCase> {};

TEST_P(HostileAttack, ArrivesAndHarmsNothing) {
  HostileMachine machine(GetParam().memory_bytes, 1);
  machine.ExpectServes(1);
  const std::string answer = machine.guest().Ask("attack " + GetParam().name);
  EXPECT_EQ(GuestMachine::Number(answer, "arrived"), GetParam().arrived) << answer;
  for (const std::string& device : GetParam().devices) {
    for (const GuestFault fault : GetParam().faults) {
      EXPECT_GT(machine.Count(device, fault), 0u)
          << device << " counted no " << GuestFaultName(fault) << ", but\n"
          << machine.AllCounts();
    }
  }
  machine.ExpectPausesAndGoesOn();
  machine.ExpectServes(2);
  machine.guest().Send("poweroff");
  EXPECT_EQ(machine.guest().WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
}

std::vector<AttackCase> AllAttacks() {
  using enum GuestFault;
  const std::vector<std::string> disk = {"disk0"};
  const std::vector<std::string> net = {"net0"};
  const std::vector<std::string> console = {"console0"};
  const std::vector<std::string> rng = {"rng0"};
  return {
      {"chain_loop", 4, {kChainLoop}},
      {"chain_too_long", 4, {kChainTooLong}},
      {"chain_too_many_bytes", 4, {kChainTooManyBytes}},
      {"next_beyond_table", 4, {kNextBeyondTable}},
      {"head_beyond_queue", 4, {kHeadBeyondQueue}},
      {"available_index_jump", 4, {kAvailableIndexJump}},
      {"address_outside", 32, {kBufferOutsideMemory}},
      {"address_overflow", 20, {kBufferOutsideMemory}},
      {"address_across_hole", 16, {kBufferOutsideMemory}, kAllDevices, 5 * kGiB},
      {"readable_behind_writable", 4, {kReadableBehindWritable}},
      {"indirect_not_negotiated", 4, {kIndirectNotNegotiated}},
      {"indirect_nested", 4, {kIndirectInIndirect}},
      {"indirect_with_next", 4, {kIndirectWithNext}},
      {"indirect_table_size", 20, {kIndirectTableSize}},
      {"indirect_table_outside", 20, {kIndirectTableOutsideMemory}, kAllDevices, 5 * kGiB},
      {"random_descriptors", 4, {}},
      {"queue_misaligned", 12, {kQueueAlignment}},
      {"queue_outside", 96, {kQueueOutsideMemory}, kAllDevices, 5 * kGiB},
      {"queue_size", 24, {kQueueSize}},
      {"queue_enabled_at_wrong_time", 8, {kQueueEnabledAtWrongTime}},
      {"queue_moved_in_use", 0, {kQueueChangedWhileEnabled}},
      {"used_ring_over_others", 0, {}},
      {"notification_flood", 0, {kNoSuchDoorbell}},
      {"reset_in_the_middle", 80, {}},
      {"reset_storm", 0, {}},
      {"features_not_offered", 12, {kFeaturesNotOffered}},
      {"features_after_negotiation", 0, {kFeaturesAfterNegotiation}},
      {"driver_ok_too_early", 4, {kDriverOkTooEarly}},
      {"no_such_queue", 0, {kNoSuchQueue}},
      {"no_such_vector", 12, {kNoSuchVector}},
      {"read_only_registers", 0, {kReadOnlyRegister}},
      {"wrong_accesses", 0, {kWrongAccess}},
      {"config_window", 0, {kConfigWindow}},
      {"bars_over_one_another", 0, {kBarOverlap}},
      {"bars_over_memory", 0, {kBarOverMemory}, kAllDevices, 5 * kGiB},
      {"bars_outside", 0, {kBarOutsideSpace}},
      {"config_of_ones", 0, {kConfigReadOnly}},
      {"config_edges", 0, {kMmioUnanswered}, {"mmio"}},
      {"config_beyond_bus", 20, {kConfigBeyondBus}, {"pci"}},
      {"msix_anywhere", 0, {kMsiAddress, kMsixBeyondTable}},
      {"ports", 0, {kPortUnanswered}, {"ports"}},
      {"clock", 0, {}, {}},
      {"device_space", 507, {kMmioUnanswered}, {"mmio"}},
      {"block_unknown_type", 7, {kBlockUnknownType}, disk},
      {"block_beyond_end", 14, {kBlockBeyondEnd}, disk},
      {"block_partial_sector", 8, {kBlockPartialSector}, disk},
      {"block_no_header", 3, {kBlockNoHeader}, disk},
      {"block_no_status", 2, {kBlockNoStatus}, disk},
      {"block_segments", 16, {kBlockSegments}, disk},
      {"block_head_in_flight", 1, {kHeadInFlight}, disk},
      {"net_offloads", 6, {kNetOffload}, net},
      {"net_frame_sizes", 5, {kNetFrameSize}, net},
      {"net_transmit_direction", 1, {kBufferDirection}, net},
      {"net_transmit_too_short", 3, {kBufferTooShort}, net},
      {"net_receive_direction", 1, {kBufferDirection}, net},
      {"net_receive_too_short", 3, {kBufferTooShort}, net},
      {"net_control", 64, {kNetControlRefused}, net},
      {"net_control_without_answer", 1, {kBufferTooShort}, net},
      {"console_control", 76, {kConsoleNoSuchPort, kConsoleUnknownEvent}, console},
      {"console_too_short", 3, {kBufferTooShort}, console},
      {"console_direction", 2, {kBufferDirection}, console},
      {"rng_readable", 1, {kBufferDirection}, rng},
      {"rng_no_room", 1, {kBufferTooShort}, rng},
      {"rng_greed", 0, {}, rng},
  };
}

INSTANTIATE_TEST_SUITE_P(Guests, HostileAttack, testing::ValuesIn(AllAttacks()),
                         [](const auto& one) { return one.param.name; });

TEST(HostileTest, EveryAttackOfTheGuestHasItsTest) {
  HostileMachine machine(64 * kMiB, 1);
  const std::string answer = machine.guest().Ask("list");
  const std::vector<AttackCase> attacks = AllAttacks();
  EXPECT_EQ(GuestMachine::Number(answer, "count"), attacks.size());
  for (const AttackCase& one : attacks) {
    EXPECT_THAT(machine.guest().output(), testing::HasSubstr("event attack " + one.name + "\r"));
  }
}

TEST(HostileTest, AWellBehavedGuestIsNotCounted) {
  HostileMachine machine(64 * kMiB, 1);
  machine.ExpectServes(1);
  machine.ExpectServes(2);
  EXPECT_EQ(machine.AllCounts(), "");
}

// ---- all of them at random

uint64_t NumberOfEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct RoundsCase {
  uint32_t cpus;
  uint64_t rounds;
  uint64_t memory_bytes;

  friend void PrintTo(const RoundsCase& one, std::ostream* out) { *out << one.rounds << " rounds"; }
};

class HostileRounds : public testing::TestWithParam<RoundsCase> {};

TEST_P(HostileRounds, EndWithAMachineThatServes) {
  const uint64_t rounds = NumberOfEnvironment("PACSVISOR_ROUNDS", GetParam().rounds);
  const uint64_t first_seed = NumberOfEnvironment("PACSVISOR_SEED", 1);
  constexpr uint64_t kPart = 16;  // the guest answers within the deadline
  HostileMachine machine(GetParam().memory_bytes, GetParam().cpus);
  for (uint64_t done = 0; done < rounds && !testing::Test::HasFailure(); done += kPart) {
    const uint64_t count = std::min(kPart, rounds - done);
    SCOPED_TRACE(testing::Message() << "from seed " << first_seed + done);
    machine.guest().Send(fmt::format("rounds count={} seed={}", count, first_seed + done));
    EXPECT_THAT(machine.guest().Expect(" rounds "), testing::StartsWith("ok rounds "));
    machine.ExpectPausesAndGoesOn();
  }
  machine.ExpectServes(1'000'000);
  EXPECT_NE(machine.AllCounts(), "");
}

std::string NameOfRounds(const testing::TestParamInfo<RoundsCase>& one) {
  return fmt::format("{}Cpus{}MiB", one.param.cpus, one.param.memory_bytes / kMiB);
}

INSTANTIATE_TEST_SUITE_P(Guests, HostileRounds,
                         testing::Values(RoundsCase{1, 40, 64 * kMiB}, RoundsCase{2, 30, 64 * kMiB},
                                         RoundsCase{4, 20, 5 * kGiB}),
                         NameOfRounds);
INSTANTIATE_TEST_SUITE_P(Full, HostileRounds,
                         testing::Values(RoundsCase{1, 3000, 64 * kMiB},
                                         RoundsCase{2, 3000, 64 * kMiB},
                                         RoundsCase{4, 500, 5 * kGiB}),
                         NameOfRounds);

}  // namespace
}  // namespace pacsvisor
