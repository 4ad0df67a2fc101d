// Linux guests whose memory lies on both sides of the hole below 4 GiB, filled and read back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>

#include "tests/guest/linux_guest.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {
namespace {

struct MemoryCase {
  uint64_t mib;
  uint32_t cpus;

  friend void PrintTo(const MemoryCase& one, std::ostream* out) { *out << one.mib << " MiB"; }
};

class LinuxMemory : public testing::TestWithParam<MemoryCase> {};

std::string NameOf(const testing::TestParamInfo<MemoryCase>& one) {
  return std::to_string(one.param.mib) + "Mib" + std::to_string(one.param.cpus) + "Cpus";
}
INSTANTIATE_TEST_SUITE_P(Sizes, LinuxMemory, testing::Values(MemoryCase{3584, 4}), NameOf);
INSTANTIATE_TEST_SUITE_P(Full, LinuxMemory,
                         testing::Values(MemoryCase{3584, 1}, MemoryCase{5120, 1},
                                         MemoryCase{5120, 4}),
                         NameOf);

TEST_P(LinuxMemory, HoldsWhatIsWrittenOnBothSidesOfTheHole) {
  constexpr uint64_t kReserveMib = 96;
  const uint64_t memory_bytes = GetParam().mib * kMiB;
  GuestFiles files;
  GuestMachine guest(LinuxConfig(
      files,
      "echo pacs-job $(/run/job/memory_filler " + std::to_string(kReserveMib) +
          " $(nproc)); echo pacs-job faults $(dmesg | grep -ciE 'oops|bug:|bad page|corrupt'); "
          "busybox poweroff -f",
      GetParam().cpus, memory_bytes, {PACSVISOR_MEMORY_FILLER}));
  guest.Start();
  const std::string line = guest.Expect("pacs-job filled") + " ";
  EXPECT_EQ(GuestMachine::Number(line, "wrong"), 0u) << line;
  // All but what the kernel, its page table of pages and the reserve take.
  const uint64_t unused_bytes = kReserveMib * kMiB + memory_bytes / 16;
  EXPECT_GE(GuestMachine::Number(line, "below") + unused_bytes, kLowMemoryLimitBytes) << line;
  EXPECT_GE(GuestMachine::Number(line, "above") + unused_bytes, memory_bytes - kLowMemoryLimitBytes)
      << line;
  EXPECT_EQ(GuestMachine::Number(line, "below") + GuestMachine::Number(line, "above"),
            GuestMachine::Number(line, "bytes"))
      << line;
  EXPECT_THAT(guest.Expect("pacs-job faults"), testing::EndsWith("faults 0"));
  EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
}

}  // namespace
}  // namespace pacsvisor
