// The walk through the heart: pause, save, full copy to a file, restore in a new process, go on.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/guest/guest_machine.h"
#include "tests/guest/restore_process.h"

namespace pacsvisor {
namespace {

class RestoreTest : public testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/pacsvisor-restore-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
};

INSTANTIATE_TEST_SUITE_P(Cpus, RestoreTest, testing::Values(1, 2));

TEST_P(RestoreTest, GoesOnInANewProcessWithEveryByteAndNoTimeLost) {
  const MachineConfig config = DirtierConfig(128 * kMiB, GetParam());
  uint64_t counter_ms = 0;
  std::string checksum;
  {
    GuestMachine guest(config);
    guest.Start();
    guest.Expect("event ready");
    guest.Ask("dirty pages=3000 pattern=random writes=5000 seed=9");
    guest.Expect("event done");
    checksum = guest.Ask("checksum");
    counter_ms = GuestMachine::Number(guest.Ask("counter"), "ms");
    ASSERT_TRUE(guest.machine().Pause().ok());
    const Status saved = SaveMachine(guest.machine(), directory_ + "/copy");
    ASSERT_TRUE(saved.ok()) << saved.error().message();
  }
  RestoredGuest restored(directory_ + "/copy", config, {});
  restored.Send("checksum");
  EXPECT_EQ(restored.Expect("ok checksum").substr(11) + " ", checksum);
  restored.Send("verify");
  EXPECT_NE(restored.Expect("ok verify").find("bad=0"), std::string::npos);
  // Its clock went on from the instant of the copy: not behind it, and not by the time away.
  restored.Send("counter");
  const uint64_t later_ms = GuestMachine::Number(restored.Expect("ok counter"), "ms");
  EXPECT_GE(later_ms, counter_ms);
  restored.Send("gap");
  EXPECT_EQ(GuestMachine::Number(restored.Expect("ok gap"), "backwards"), 0u);
  restored.Send("dirty pages=100 writes=200");
  restored.Expect("event done");
  restored.Send("poweroff");
  EXPECT_EQ(restored.WaitForExit(), 0);
}

}  // namespace
}  // namespace pacsvisor
