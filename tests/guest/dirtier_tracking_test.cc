// Dirty tracking of whole machines: a replica that is kept up by copying what each harvest says,
// while the dirtier writes as fast as it can, is the machine's memory byte for byte.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <tuple>

#include "tests/guest/guest_machine.h"
#include "vmm/dirty/dirty_tracker.h"
#include "vmm/machine/host_resources.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kMemoryBytes = 256 * kMiB;  // twice what one ring holds

class DirtierTracking : public testing::TestWithParam<std::tuple<Tracking, uint32_t>> {
 protected:
  void SetUp() override {
    const auto kvm = KvmSystem::Open().value();
    const Result<TrackingResource> resource = OpenTracking(tracking(), *kvm);
    if (!resource.ok() && std::getenv("PACSVISOR_REQUIRE_KVM") == nullptr) {
      GTEST_SKIP() << resource.error().message();
    }
    ASSERT_TRUE(resource.ok()) << resource.error().message();
  }

  Tracking tracking() const { return std::get<0>(GetParam()); }
  uint32_t cpus() const { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Guests, DirtierTracking,
                         testing::Combine(testing::ValuesIn(kTrackingSources),
                                          testing::Values(1u, 2u)),
                         [](const auto& param) {
                           return std::string(TrackingName(std::get<0>(param.param))) +
                                  std::to_string(std::get<1>(param.param)) + "Cpus";
                         });

class MachineReplica {
 public:
  explicit MachineReplica(Machine& machine)
      : machine_(machine),
        bytes_(machine.memory().host_ranges()[0].host,
               machine.memory().host_ranges()[0].host + machine.memory().size_bytes()),
        words_(machine.memory().dirty().word_count()) {}

  void Update(Status (DirtyTracker::*harvest)(std::span<uint64_t>)) {
    std::fill(words_.begin(), words_.end(), 0);
    const Status harvested = (machine_.tracker().*harvest)(words_);
    ASSERT_TRUE(harvested.ok()) << harvested.error().message();
    for (const Extent& extent : ExtentsOf(words_, machine_.memory().page_count())) {
      const uint64_t offset = extent.first.raw() * kPageSizeBytes;
      std::memcpy(&bytes_[offset], Host() + offset, extent.count * kPageSizeBytes);
    }
  }
  bool IsTheMachines() const { return std::memcmp(bytes_.data(), Host(), bytes_.size()) == 0; }

 private:
  const uint8_t* Host() const { return machine_.memory().host_ranges()[0].host; }

  Machine& machine_;
  std::vector<uint8_t> bytes_;
  std::vector<uint64_t> words_;
};

TEST_P(DirtierTracking, KeepsAReplicaUpWithAGuestThatWritesAllTheTime) {
  MachineConfig config = DirtierConfig(kMemoryBytes, cpus());
  config.tracking = tracking();
  GuestMachine guest(config);
  guest.Start();
  guest.Expect("event ready");
  Machine& machine = guest.machine();
  ASSERT_EQ(machine.tracker().source_name(), TrackingName(tracking()));

  guest.Ask("dirty pages=all pattern=random seed=5");
  ASSERT_TRUE(machine.tracker().Start().ok());
  ASSERT_TRUE(machine.Pause().ok());
  MachineReplica replica(machine);
  ASSERT_TRUE(machine.Resume().ok());
  for (int snapshot = 0; snapshot < 4; ++snapshot) {
    for (int round = 0; round < 5; ++round) {
      replica.Update(&DirtyTracker::Harvest);
    }
    ASSERT_TRUE(machine.Pause().ok());
    replica.Update(&DirtyTracker::HarvestPaused);
    ASSERT_TRUE(replica.IsTheMachines()) << "at instant " << snapshot;
    ASSERT_TRUE(machine.Resume().ok());
    guest.Ask("status");  // it runs, and has written since
  }
  machine.tracker().Stop();
  guest.Ask("stop");
  guest.Expect("event done");
  EXPECT_EQ(GuestMachine::Number(guest.Ask("verify"), "bad"), 0u);
}

// More pages than the ring has entries, and nobody harvests.
TEST_P(DirtierTracking, LosesNothingOverALongTimeWithoutAHarvest) {
  MachineConfig config = DirtierConfig(kMemoryBytes, cpus());
  config.tracking = tracking();
  GuestMachine guest(config);
  guest.Start();
  guest.Expect("event ready");
  Machine& machine = guest.machine();
  ASSERT_TRUE(machine.Pause().ok());
  ASSERT_TRUE(machine.tracker().Start().ok());
  MachineReplica replica(machine);
  ASSERT_TRUE(machine.Resume().ok());
  guest.Ask("dirty pages=all pattern=sequential bytes=8 writes=130000");
  guest.Expect("event done");
  ASSERT_TRUE(machine.Pause().ok());
  replica.Update(&DirtyTracker::HarvestPaused);
  EXPECT_TRUE(replica.IsTheMachines());
  ASSERT_TRUE(machine.Resume().ok());
  EXPECT_EQ(GuestMachine::Number(guest.Ask("verify"), "bad"), 0u);
}

// The machine of a guest that resets itself is built over the same resources.
TEST_P(DirtierTracking, IsMadeAnewForTheMachineAfterAReset) {
  MachineConfig config = DirtierConfig(64 * kMiB, cpus());
  config.tracking = tracking();
  const auto host = HostResources::Open(config, {}).value();
  for (int boot = 0; boot < 3; ++boot) {
    MachineOptions options;
    options.host = host;
    const auto machine = Machine::Build(config, std::move(options)).value();
    ASSERT_TRUE(machine->tracker().Start().ok());
    std::vector<uint64_t> words(machine->memory().dirty().word_count());
    ASSERT_TRUE(machine->tracker().Harvest(words).ok());
    EXPECT_FALSE(ExtentsOf(words, machine->memory().page_count()).empty());  // the loader's
  }
}

}  // namespace
}  // namespace pacsvisor
