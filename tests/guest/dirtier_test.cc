// The freestanding measuring guest (guests/dirtier) under pacsvisor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <ostream>

#include "tests/guest/guest_machine.h"

namespace pacsvisor {
namespace {

struct Size {
  uint64_t memory_bytes;
  uint32_t cpus;

  friend void PrintTo(const Size& one, std::ostream* out) { *out << one.memory_bytes; }
};

class DirtierSizes : public testing::TestWithParam<Size> {};

// Below the hole, up to it, across it; one and several processors.
INSTANTIATE_TEST_SUITE_P(Guests, DirtierSizes,
                         testing::Values(Size{64 * kMiB, 1}, Size{512 * kMiB, 2},
                                         Size{3584 * kMiB, 1}, Size{5 * kGiB, 4}),
                         [](const auto& param) {
                           return std::to_string(param.param.memory_bytes / kMiB) + "MiB" +
                                  std::to_string(param.param.cpus) + "Cpus";
                         });

TEST_P(DirtierSizes, FindsItsMemoryAndProcessors) {
  GuestMachine guest(DirtierConfig(GetParam().memory_bytes, GetParam().cpus));
  guest.Start();
  const std::string ready = guest.Expect("event ready");
  EXPECT_EQ(GuestMachine::Number(ready, "processors"), GetParam().cpus);
  // All but what the firmware keeps below 1 MiB.
  const uint64_t ram_bytes = GuestMachine::Number(guest.Ask("memory"), "ram_bytes");
  EXPECT_LE(ram_bytes, GetParam().memory_bytes);
  EXPECT_GE(ram_bytes, GetParam().memory_bytes - kMiB);
}

TEST_P(DirtierSizes, KeepsWhatItWrites) {
  GuestMachine guest(DirtierConfig(GetParam().memory_bytes, GetParam().cpus));
  guest.Start();
  guest.Expect("event ready");
  guest.Ask("dirty pages=5000 pattern=random writes=6000 seed=3");
  guest.Expect("event done");
  const std::string verified = guest.Ask("verify");
  EXPECT_EQ(GuestMachine::Number(verified, "bad"), 0u);
  EXPECT_GT(GuestMachine::Number(verified, "written"), 4000u);
}

TEST(DirtierTest, PowersOffByTheSleepControlRegister) {
  GuestMachine guest(DirtierConfig(64 * kMiB, 1));
  guest.Start();
  guest.Expect("event ready");
  guest.Send("poweroff");
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
}

TEST(DirtierTest, ResetsByTheResetRegister) {
  MachineConfig config = DirtierConfig(64 * kMiB, 1);
  config.boot.cmdline = "poweroff=port:0x601:1:1";
  GuestMachine guest(config);
  guest.Start();
  guest.Expect("event ready");
  guest.Send("poweroff");
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kReset);
}

TEST(DirtierTest, EndsWithAFaultReportOnATripleFault) {
  GuestMachine guest(DirtierConfig(64 * kMiB, 1));
  guest.Start();
  guest.Expect("event ready");
  guest.Send("fault kind=triple");
  const MachineEnd end = guest.WaitForEnd();
  EXPECT_EQ(end.reason, MachineEnd::Reason::kGuestFault);
  EXPECT_THAT(end.report, testing::HasSubstr("vCPU 0 stopped"));
  EXPECT_THAT(end.report, testing::HasSubstr("PML4E"));
}

TEST(DirtierTest, StandsStillWhilePausedAndGoesOnAfterwards) {
  GuestMachine guest(DirtierConfig(256 * kMiB, 2));
  guest.Start();
  guest.Expect("event ready");
  guest.Ask("dirty pages=2000 pattern=hot");
  for (int round = 0; round < 100; ++round) {
    ASSERT_TRUE(guest.machine().Pause().ok());
    ASSERT_TRUE(guest.machine().paused());
    ASSERT_TRUE(guest.machine().Pause().ok());  // again: nothing happens
    ASSERT_TRUE(guest.machine().Resume().ok());
  }
  const uint64_t writes = GuestMachine::Number(guest.Ask("status"), "writes");
  guest.Ask("stop");
  guest.Expect("event done");
  EXPECT_GT(writes, 0u);
  EXPECT_EQ(GuestMachine::Number(guest.Ask("verify"), "bad"), 0u);
  // Time never goes back for the guest.
  EXPECT_EQ(GuestMachine::Number(guest.Ask("gap"), "backwards"), 0u);
}

// As when another process of the same user is flooded with signals that it does not take.
TEST(DirtierTest, StandsStillWhenTheUsersSignalQueueIsFull) {
  GuestMachine guest(DirtierConfig(64 * kMiB, 2));
  guest.Start();
  guest.Expect("event ready");
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_SIGPENDING, &before), 0);
  const rlimit full = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_SIGPENDING, &full), 0);
  for (int round = 0; round < 20; ++round) {
    EXPECT_TRUE(guest.machine().Pause().ok());
    EXPECT_TRUE(guest.machine().Resume().ok());
  }
  EXPECT_EQ(setrlimit(RLIMIT_SIGPENDING, &before), 0);
  guest.Send("poweroff");
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
}

TEST(DirtierTest, ForcedStopEndsAMachineThatIsPaused) {
  GuestMachine guest(DirtierConfig(64 * kMiB, 2));
  guest.Start();
  guest.Expect("event ready");
  ASSERT_TRUE(guest.machine().Pause().ok());
  guest.machine().ForceStop();
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kForced);
}

}  // namespace
}  // namespace pacsvisor
