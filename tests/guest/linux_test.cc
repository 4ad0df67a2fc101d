// Linux on pacsvisor's devices, at native speed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/guest/linux_guest.h"

namespace pacsvisor {
namespace {

class LinuxCpus : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Cpus, LinuxCpus, testing::Values(1, 2, 4));

TEST_P(LinuxCpus, BootsAndPowersOff) {
  GuestFiles files;
  GuestMachine guest(
      LinuxConfig(files, "echo pacs-job $(nproc) processors; busybox poweroff -f", GetParam()));
  guest.Start();
  EXPECT_THAT(guest.Expect("pacs-job"),
              testing::HasSubstr(std::to_string(GetParam()) + " processors"));
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
}

TEST(LinuxTest, EndsByThePowerButton) {
  GuestFiles files;
  GuestMachine guest(LinuxConfig(files, "sleep 1; echo pacs-job ready", 1));
  guest.Start();
  guest.Expect("pacs-job ready");
  guest.machine().PressPowerButton();
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
}

TEST(LinuxTest, AsksForAReset) {
  GuestFiles files;
  GuestMachine guest(LinuxConfig(files, "busybox reboot -f", 1));
  guest.Start();
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kReset);
}

TEST(LinuxTest, FindsProcessorsAndDisksWithoutAcpi) {
  GuestFiles files;
  MachineConfig config = LinuxConfig(files, "echo pacs-job $(nproc) processors", 3);
  config.boot.cmdline += " acpi=off";
  GuestMachine guest(config);
  guest.Start();
  EXPECT_THAT(guest.Expect("pacs-job"), testing::HasSubstr(" 3 processors"));
}

TEST(LinuxTest, KnowsTheTimeAndTheDisks) {
  GuestFiles files;
  GuestMachine guest(
      LinuxConfig(files,
                  "echo pacs-job time $(date +%s) serial $(cat /sys/block/vda/serial) read-only "
                  "$(cat /sys/block/vdb/ro); busybox poweroff -f",
                  1));
  guest.Start();
  const std::string line = guest.Expect("pacs-job time");
  EXPECT_THAT(line, testing::HasSubstr("serial root read-only 1"));
  const uint64_t guest_seconds = std::strtoull(line.c_str() + line.find("time ") + 5, nullptr, 10);
  const auto host_seconds = static_cast<uint64_t>(::time(nullptr));
  EXPECT_LE(guest_seconds, host_seconds + 2);
  EXPECT_GE(guest_seconds + 60, host_seconds);
}

TEST_P(LinuxCpus, KeepsWhatFioWritesAndVerifies) {
  GuestFiles files;
  MachineConfig config = LinuxConfig(
      files,
      "fio --name=v --filename=/dev/vdc --direct=1 --ioengine=libaio --iodepth=16 "
      "--rw=randrw --bsrange=512-128k --size=64M --io_size=64M --verify=crc32c "
      "--verify_fatal=1 --fsync=32 --randrepeat=1 >/tmp/fio 2>&1; echo pacs-job fio $?; "
      "tail -n 3 /tmp/fio; busybox poweroff -f",
      GetParam());
  config.disks.push_back(
      {.path = files.MakeDisk("scratch.raw", 128 * kMiB), .serial = "scratch", .queues = 2});
  GuestMachine guest(config);
  guest.Start();
  EXPECT_THAT(guest.Expect("pacs-job fio"), testing::EndsWith("pacs-job fio 0"));
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
}

TEST(LinuxTest, ReachesTheHostByTheUserNetwork) {
  GuestFiles files;
  MachineConfig config =
      LinuxConfig(files,
                  "for i in $(seq 50); do ip -4 -o address show | grep -q "
                  "10.0.2.15 && break; sleep 0.1; done; "
                  "ip -4 -o address show | grep -o '10\\.0\\.2\\.[0-9]*/'; "
                  "busybox ping -c 1 -W 2 10.0.2.2 >/dev/null; echo pacs-job ping $?; "
                  "busybox poweroff -f",
                  1);
  config.nets.push_back({.backend = NetBackend::kUser, .mac = {0x52, 0x54, 0, 1, 2, 3}});
  GuestMachine guest(config);
  guest.Start();
  EXPECT_THAT(guest.Expect("pacs-job ping"), testing::EndsWith("pacs-job ping 0"));
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
}

}  // namespace
}  // namespace pacsvisor
